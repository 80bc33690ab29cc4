import com.rudderstack.sdk.java.analytics.Callback;
import com.rudderstack.sdk.java.analytics.RudderAnalytics;
import com.rudderstack.sdk.java.analytics.messages.AliasMessage;
import com.rudderstack.sdk.java.analytics.messages.GroupMessage;
import com.rudderstack.sdk.java.analytics.messages.IdentifyMessage;
import com.rudderstack.sdk.java.analytics.messages.Message;
import com.rudderstack.sdk.java.analytics.messages.MessageBuilder;
import com.rudderstack.sdk.java.analytics.messages.PageMessage;
import com.rudderstack.sdk.java.analytics.messages.ScreenMessage;
import com.rudderstack.sdk.java.analytics.messages.TrackMessage;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/** Every call of com.rudderstack.sdk.java.analytics, as its documentation shows them. */
final class RudderJava {
  public static void main(String[] arguments) throws InterruptedException {
    List<MessageBuilder<?, ?>> calls = List.of(
        IdentifyMessage.builder().traits(Map.of("plan", "team", "email", "sdk@mail.example", "seats", 4)),
        TrackMessage.builder("SDK Event")
            .properties(Map.of("count", 7, "price", 1.5, "nested", Map.of("deep", true))),
        PageMessage.builder("SDK Page").properties(Map.of("path", "/docs")),
        ScreenMessage.builder("SDK Screen").properties(Map.of("tab", "home")),
        GroupMessage.builder("sdk-group").traits(Map.of("employees", 12)),
        AliasMessage.builder("sdk-before"));
    CountDownLatch sent = new CountDownLatch(calls.size());
    RudderAnalytics client = RudderAnalytics.builder(arguments[0])
        .setDataPlaneUrl(arguments[1])
        .callback(new Callback() {
          @Override public void success(Message message) {
            sent.countDown();
          }

          @Override public void failure(Message message, Throwable cause) {
            System.err.println(message.type() + ": " + cause);
          }
        })
        .build();
    for (MessageBuilder<?, ?> call : calls) {
      client.enqueue(call.userId("sdk-user"));
    }
    client.flush();
    boolean all = sent.await(30, TimeUnit.SECONDS);
    client.shutdown();
    System.exit(all ? 0 : 1);
  }
}
