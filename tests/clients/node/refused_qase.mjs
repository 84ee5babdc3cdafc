// qaseio, on axios, meets refusals: what its user sees of each, and after how many seconds.
import { QaseApi } from 'qaseio';

const qase = new QaseApi({ token: process.env.QASE_TOKEN });
const overridden = { headers: { 'X-HTTP-Method-Override': 'DELETE' } };
const calls = {
  request_not_allowed: () => qase.runs.deleteRun('DEMO', 1),
  path_not_canonical: () => qase.runs.getRun('DEMO/x', 1),
  method_override: () => qase.runs.getRun('DEMO', 1, undefined, overridden),
};
const seen = [];
for (const [call, start] of Object.entries(calls)) {
  const begin = performance.now();
  let told;
  try {
    told = `succeeded: ${JSON.stringify((await start()).data)}`;
  } catch (error) {
    told = `${error.message} ${JSON.stringify(error.response?.data)}`;
  }
  seen.push({ call: `qaseio ${call}`, told, seconds: (performance.now() - begin) / 1000 });
}
console.log(JSON.stringify(seen));
