// @slack/web-api, with its own retries, meets refusals: what its user sees of each, in the error and in the
// SDK's log, and after how many seconds.

const OTHER_FILE = { channel_id: 'C1', filename: 'report.txt', content: 'total is 41' };

/** `make` gives a client with these options. */
export async function meetRefusals(name, make) {
  const logged = [];
  const say = (...words) => logged.push(words.join(' '));
  const quiet = () => {};
  const logger = { debug: quiet, info: quiet, warn: quiet, error: say, setLevel: quiet, setName: quiet, getLevel: quiet };
  const client = (options) => make({ logger, ...options });
  const post = (headers) => client({ headers }).chat.postMessage({ channel: 'C1', text: 'hello' });
  const calls = {
    path_denied: () => client().auth.revoke(),
    request_not_allowed: () => client().chat.delete({ channel: 'C1', ts: '1.1' }),
    form_unreadable: () => client().apiCall('chat.postMessage', { channel: 'C1', text: 'x'.repeat(2_000_000) }),
    path_not_canonical: () => client().apiCall('chat.postMessage//x'),
    method_override: () => post({ 'X-HTTP-Method-Override': 'GET' }),
    path_override: () => post({ 'X-Original-URL': '/api/auth.revoke' }),
    header_alias: () => post({ X_Api_Key: 'mine' }),
    upload: () => client().filesUploadV2(OTHER_FILE),
  };
  const seen = [];
  for (const [call, start] of Object.entries(calls)) {
    logged.length = 0;
    const begin = performance.now();
    let told;
    try {
      told = `succeeded: ${JSON.stringify(await start())}`;
    } catch (error) {
      told = `${error.name}: ${error.message}`;
    }
    const seconds = (performance.now() - begin) / 1000;
    seen.push({ call: `${name} ${call}`, told: [told, ...logged].join('\n'), seconds });
  }
  return seen;
}
