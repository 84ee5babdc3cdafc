// @slack/web-api 8 meets a refusal: a call that policy does not allow, with the SDK's own retries.
import { WebClient } from 'slack-web-api-8';
import { EnvHttpProxyAgent, install, setGlobalDispatcher } from 'undici';

install();
setGlobalDispatcher(new EnvHttpProxyAgent());
let tries = 0;
const counted = (url, init) => {
  tries += 1;
  return fetch(url, init);
};
const client = new WebClient(process.env.SLACK_BOT_TOKEN, { fetch: counted });
let error = null;
try {
  await client.auth.revoke();
} catch (thrown) {
  error = { code: thrown.code, data: thrown.data };
}
console.log(JSON.stringify({ error, tries }));
