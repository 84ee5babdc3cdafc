// @slack/web-api 8 meets a refusal: a call that policy does not allow, with the SDK's own retries.
import { WebClient } from 'slack-web-api-8';
import { ProxyAgent, fetch } from 'undici';

const dispatcher = new ProxyAgent(process.env.HTTPS_PROXY);
let tries = 0;
const client = new WebClient(process.env.SLACK_BOT_TOKEN, {
  fetch: (url, init) => {
    tries += 1;
    return fetch(url, { ...init, dispatcher });
  },
});
let error = null;
try {
  await client.auth.revoke();
} catch (thrown) {
  error = { code: thrown.code, data: thrown.data };
}
console.log(JSON.stringify({ error, tries }));
await dispatcher.close();
