// @slack/web-api 8 and undici meet refusals. undici's agent reads HTTPS_PROXY.
import { WebClient } from 'slack-web-api-8';
import { EnvHttpProxyAgent, install, setGlobalDispatcher } from 'undici';

import { meetRefusals } from './refused.mjs';

install();
setGlobalDispatcher(new EnvHttpProxyAgent());
const make = (options) => new WebClient(process.env.SLACK_BOT_TOKEN, options);
const seen = await meetRefusals('web-api 8', make);

const urls = {
  request_not_allowed: 'https://slack.com/api/chat.delete',
  webhook: 'https://hooks.slack.com/services/T000/B000/other',
};
for (const [call, url] of Object.entries(urls)) {
  const begin = performance.now();
  const answer = await fetch(url, { method: 'POST', body: 'hello' });
  const told = `${answer.status} ${await answer.text()}`;
  seen.push({ call: `undici ${call}`, told, seconds: (performance.now() - begin) / 1000 });
}
console.log(JSON.stringify(seen));
