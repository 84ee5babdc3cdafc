// Node's clients send large bodies that are refused: what each reads of the refusal. axios sends requests for
// https:// to a proxy of HTTPS_PROXY in absolute form; https-proxy-agent opens a tunnel.
import { HttpsProxyAgent } from 'https-proxy-agent';
import { QaseApi } from 'qaseio';
import { WebClient as WebClient7 } from 'slack-web-api-7';
import { WebClient as WebClient8 } from 'slack-web-api-8';
import { EnvHttpProxyAgent, install, setGlobalDispatcher } from 'undici';

install();
setGlobalDispatcher(new EnvHttpProxyAgent());
const token = process.env.SLACK_BOT_TOKEN;
const agent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
const quiet = () => {};
const logger = { debug: quiet, info: quiet, warn: quiet, error: quiet, setLevel: quiet, setName: quiet, getLevel: quiet };
const qase = new QaseApi({ token: process.env.QASE_TOKEN });
const url = 'https://slack.com/api/chat.delete';

const calls = {
  'web-api 7': (text) => new WebClient7(token, { agent, logger }).apiCall('chat.delete', { text }),
  'web-api 8': (text) => new WebClient8(token, { logger }).apiCall('chat.delete', { text }),
  undici: async (text) => (await fetch(url, { method: 'POST', body: text })).json(),
  qaseio: (text) => qase.cases.createCase('DEMO', { title: text }),
};
const seen = [];
for (const [call, start] of Object.entries(calls)) {
  for (const size of [300_000, 1 << 20, 32 << 20]) {
    const begin = performance.now();
    let told;
    try {
      told = JSON.stringify(await start('x'.repeat(size)));
    } catch (error) {
      told = `${error.message} ${JSON.stringify(error.data ?? error.response?.data ?? error.cause?.code)}`;
    }
    seen.push({ call, size, told, seconds: (performance.now() - begin) / 1000 });
  }
}
console.log(JSON.stringify(seen));
