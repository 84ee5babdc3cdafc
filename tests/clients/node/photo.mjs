// @slack/web-api 7 and 8 set a photo: a large multipart form, on a route that removes the caller's token from forms.
import { HttpsProxyAgent } from 'https-proxy-agent';
import { WebClient as Seven } from 'slack-web-api-7';
import { WebClient as Eight } from 'slack-web-api-8';
import { EnvHttpProxyAgent, install, setGlobalDispatcher } from 'undici';

const token = process.env.SLACK_BOT_TOKEN;
const image = Buffer.alloc(2 * 1024 * 1024, 1);
const seven = new Seven(token, { agent: new HttpsProxyAgent(process.env.HTTPS_PROXY) });
const photos = [await seven.users.setPhoto({ image })];
install();
setGlobalDispatcher(new EnvHttpProxyAgent());
const eight = new Eight(token, { fetch });
photos.push(await eight.users.setPhoto({ image }));
console.log(JSON.stringify({ photos }));
