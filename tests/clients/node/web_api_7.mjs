// @slack/web-api 7: message, history, upload. It ignores HTTPS_PROXY: where there is one, `agent`
// says the same thing. A `token` of a single call goes into the header and into the form.
import { HttpsProxyAgent } from 'https-proxy-agent';
import { WebClient } from 'slack-web-api-7';

const token = process.env.SLACK_BOT_TOKEN;
const proxy = process.env.HTTPS_PROXY;
const client = new WebClient(token, proxy ? { agent: new HttpsProxyAgent(proxy) } : {});
const posted = await client.chat.postMessage({ channel: 'C0WEB7', text: '2 of 14 failed', token });
const history = await client.conversations.history({ channel: 'C0WEB7', limit: 2 });
const uploaded = await client.filesUploadV2({
  channel_id: 'C0WEB7',
  filename: 'report.txt',
  content: 'total is 41, not 42',
});
console.log(JSON.stringify({ posted, history, uploaded }));
