// qaseio, on axios: reads as the nightly dashboard does, and writes a run and a result. It reads
// HTTPS_PROXY by itself.
import { QaseApi } from 'qaseio';

const qase = new QaseApi({ token: process.env.QASE_TOKEN });
const runs = await qase.runs.getRuns('DEMO', undefined, undefined, undefined, undefined, undefined, undefined, 100, 0, 'cases');
const defects = await qase.defects.getDefects('DEMO', 'open');
const created = await qase.runs.createRun('DEMO', { title: 'From qaseio' });
const result = await qase.results.createResult('DEMO', created.data.result.id, { case_id: 1, status: 'passed' });
console.log(JSON.stringify({
  runs: runs.data.result.entities.map((run) => run.title),
  defects: defects.data.result.entities.map((defect) => defect.title),
  created: created.data.status,
  result: result.data.status,
}));
