// Every call of @rudderstack/rudder-sdk-node, as its documentation shows them.
const { createRequire } = require('node:module');
const [writeKey, dataPlaneUrl, folder] = process.argv.slice(2);
const RudderAnalytics = createRequire(`${folder}/`)('@rudderstack/rudder-sdk-node');

const client = new RudderAnalytics(writeKey, { dataPlaneUrl, flushInterval: 200 });
const failed = [];
const done = (error) => { if (error) failed.push(String(error)); };

client.identify({ userId: 'node-user', traits: { plan: 'business', email: 'node@mail.example', seats: 9 } }, done);
client.track({ userId: 'node-user', event: 'Node Event', properties: { count: 3, price: 2.5, nested: { deep: true } } }, done);
client.page({ userId: 'node-user', category: 'docs', name: 'Node Page', properties: { path: '/docs' } }, done);
client.screen({ userId: 'node-user', category: 'app', name: 'Node Screen', properties: { tab: 'home' } }, done);
client.group({ userId: 'node-user', groupId: 'node-group', traits: { employees: 30 } }, done);
client.alias({ previousId: 'node-before', userId: 'node-user' }, done);
client.flush().then(() => setTimeout(() => { console.error(failed.join('; ')); process.exit(failed.length ? 1 : 0); }, 1500));
