// Every call of @rudderstack/rudder-sdk-node, as its documentation shows them.
const { createRequire } = require('node:module');
const [writeKey, dataPlaneUrl, folder] = process.argv.slice(2);
const RudderAnalytics = createRequire(`${folder}/`)('@rudderstack/rudder-sdk-node');

const client = new RudderAnalytics(writeKey, { dataPlaneUrl, flushInterval: 200 });
const userId = 'sdk-user';
// The SDK sends the first event alone and the others after it; each call's callback comes with its answer.
const call = (name, event) => new Promise((sent, failed) => {
  client[name]({ userId, ...event }, (error) => (error ? failed(error) : sent()));
});

Promise.all([
  call('identify', { traits: { plan: 'team', email: 'sdk@mail.example', seats: 4 } }),
  call('track', { event: 'SDK Event', properties: { count: 7, price: 1.5, nested: { deep: true } } }),
  call('page', { category: 'docs', name: 'SDK Page', properties: { path: '/docs' } }),
  call('screen', { category: 'app', name: 'SDK Screen', properties: { tab: 'home' } }),
  call('group', { groupId: 'sdk-group', traits: { employees: 12 } }),
  call('alias', { previousId: 'sdk-before' }),
]).then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
