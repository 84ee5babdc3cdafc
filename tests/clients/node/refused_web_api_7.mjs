// @slack/web-api 7 meets refusals. It ignores HTTPS_PROXY; `agent` says the same thing.
import { HttpsProxyAgent } from 'https-proxy-agent';
import { WebClient } from 'slack-web-api-7';

import { meetRefusals } from './refused.mjs';

const agent = new HttpsProxyAgent(process.env.HTTPS_PROXY);
const make = (options) => new WebClient(process.env.SLACK_BOT_TOKEN, { agent, ...options });
console.log(JSON.stringify(await meetRefusals('web-api 7', make)));
