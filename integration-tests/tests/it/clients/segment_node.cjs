// Every call of @segment/analytics-node, as its documentation shows them.
const { createRequire } = require('node:module');
const [writeKey, host, folder] = process.argv.slice(2);
const { Analytics } = createRequire(`${folder}/`)('@segment/analytics-node');

const client = new Analytics({ writeKey, host, flushInterval: 200 });
const failed = [];
client.on('error', (error) => failed.push(error));

const userId = 'sdk-user';
client.identify({ userId, traits: { plan: 'team', email: 'sdk@mail.example', seats: 4 } });
client.track({ userId, event: 'SDK Event', properties: { count: 7, price: 1.5, nested: { deep: true } } });
client.page({ userId, category: 'docs', name: 'SDK Page', properties: { path: '/docs' } });
client.screen({ userId, category: 'app', name: 'SDK Screen', properties: { tab: 'home' } });
client.group({ userId, groupId: 'sdk-group', traits: { employees: 12 } });
client.alias({ userId, previousId: 'sdk-before' });
client.closeAndFlush().then(() => {
  if (failed.length) console.error(failed);
  process.exitCode = failed.length ? 1 : 0;
});
