// @slack/web-api 8: message, history, upload. It calls the global fetch, which on Node 20 ignores
// HTTPS_PROXY: where there is one, undici's own fetch, installed in its place, has an agent that
// reads it. A `token` of a single call goes into the header and into the form.
import { WebClient } from 'slack-web-api-8';
import { EnvHttpProxyAgent, install, setGlobalDispatcher } from 'undici';

if (process.env.HTTPS_PROXY) {
  install();
  setGlobalDispatcher(new EnvHttpProxyAgent());
}
const token = process.env.SLACK_BOT_TOKEN;
const client = new WebClient(token);
const posted = await client.chat.postMessage({ channel: 'C0WEB8', text: '2 of 14 failed', token });
const history = await client.conversations.history({ channel: 'C0WEB8', limit: 2 });
const uploaded = await client.filesUploadV2({
  channel_id: 'C0WEB8',
  filename: 'report.txt',
  content: 'total is 41, not 42',
});
console.log(JSON.stringify({ posted, history, uploaded }));
