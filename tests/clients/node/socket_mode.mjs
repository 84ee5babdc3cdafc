// @slack/socket-mode: opens a connection, acknowledges one event, leaves. Its WebSocket ignores
// HTTPS_PROXY: where there is one, `dispatcher` says the same thing, for the API call too.
import { SocketModeClient } from '@slack/socket-mode';
import { ProxyAgent } from 'undici';

const appToken = process.env.SLACK_APP_TOKEN;
const proxy = process.env.HTTPS_PROXY;
const dispatcher = proxy && new ProxyAgent(proxy);
const client = new SocketModeClient(dispatcher ? { appToken, dispatcher } : { appToken });
const mention = new Promise((resolve) => {
  client.on('app_mention', async ({ ack, envelope_id, event }) => {
    await ack();
    resolve({ envelope: envelope_id, text: event.text });
  });
});
await client.start();
const event = await mention;
await client.disconnect();
console.log(JSON.stringify({ event }));
await dispatcher?.close();
