//! The one project: its runs, results and defects.

use http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, PROJECT, QaseError};
use crate::{fake::Received, random};

/// What can be listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Result,
    Defect,
}

pub(super) struct Project {
    runs: Vec<Value>,
    results: Vec<Value>,
    defects: Vec<Value>,
}

impl Default for Project {
    /// Last night: two runs, of which one has a failure, and the defect that explains it.
    fn default() -> Self {
        let run = |id: u64, title: &str, passed: u64, failed: u64| {
            json!({
                "id": id,
                "title": title,
                "description": null,
                "status": 1,
                "status_text": "complete",
                "start_time": "2026-11-22T23:30:00+00:00",
                "end_time": "2026-11-23T01:10:42+00:00",
                "public": false,
                "stats": {
                    "total": passed + failed,
                    "statuses": {"passed": passed, "failed": failed},
                    "untested": 0, "passed": passed, "failed": failed, "blocked": 0,
                    "skipped": 0, "retest": 0, "in_progress": 0, "invalid": 0,
                },
                "time_spent": 6_042_000,
                "user_id": 1,
                "cases": [1, 2],
            })
        };
        let result = |run: u64, case: u64, status: &str| {
            json!({
                "hash": random::hex::<20>(),
                "run_id": run,
                "case_id": case,
                "status": status,
                "stacktrace": (status == "failed").then_some("AssertionError: total is 41, not 42"),
                "time_spent_ms": 1200,
                "end_time": "2026-11-23T01:10:42+00:00",
            })
        };
        Self {
            runs: vec![
                run(1, "Nightly: checkout", 9, 1),
                run(2, "Nightly: login", 4, 0),
            ],
            results: vec![
                result(1, 1, "passed"),
                result(1, 2, "failed"),
                result(2, 1, "passed"),
            ],
            defects: vec![json!({
                "id": 1,
                "title": "Total is off by one",
                "severity": "major",
                "status": "open",
                "runs": [1],
                "results": [],
            })],
        }
    }
}

impl Project {
    pub(super) fn runs(&self) -> usize {
        self.runs.len()
    }

    pub(super) fn active_runs(&self) -> Vec<String> {
        let active = self.runs.iter().filter(|run| run["status"] == 0);
        active.map(|run| run["title"].to_string()).collect()
    }

    pub(super) fn results(&self) -> usize {
        self.results.len()
    }

    #[expect(clippy::unused_self, reason = "a project knows its code")]
    pub(super) fn check_code(&self, code: &str) -> Result<(), QaseError> {
        if code == PROJECT {
            Ok(())
        } else {
            Err(QaseError::new(StatusCode::NOT_FOUND, "Project not found."))
        }
    }

    /// What the project is.
    pub(super) fn about(&self, code: &str) -> Result<Answer, QaseError> {
        self.check_code(code)?;
        Ok(Answer::ok(&json!({
            "title": "Demo",
            "code": PROJECT,
            "counts": {
                "cases": 2,
                "suites": 1,
                "milestones": 0,
                "runs": {"total": self.runs.len(), "active": self.active_runs().len()},
                "defects": {"total": self.defects.len(), "open": self.defects.len()},
            },
        })))
    }

    /// One page of all projects, of which there is one.
    pub(super) fn all(&self, received: &Received) -> Result<Answer, QaseError> {
        let (limit, offset) = page(&Query(received.query_fields()))?;
        let about = self.about(PROJECT)?.body["result"].take();
        let page: Vec<_> = [about].into_iter().skip(offset).take(limit).collect();
        Ok(Answer::ok(&json!({
            "total": 1,
            "filtered": 1,
            "count": page.len(),
            "entities": page,
        })))
    }

    /// One page of a list.
    pub(super) fn list(
        &self,
        code: &str,
        kind: Kind,
        received: &Received,
    ) -> Result<Answer, QaseError> {
        self.check_code(code)?;
        let query = Query(received.query_fields());
        let (limit, offset) = page(&query)?;
        // The nightly runs lie where a test's clock may not; a bad number is refused all the same.
        query.number("from_start_time", 0)?;
        let all = match kind {
            Kind::Run => &self.runs,
            Kind::Result => &self.results,
            Kind::Defect => &self.defects,
        };
        let wanted: Vec<&Value> = all
            .iter()
            .filter(|entity| kind.matches(entity, &query))
            .collect();
        let page: Vec<&Value> = wanted.iter().copied().skip(offset).take(limit).collect();
        Ok(Answer::ok(&json!({
            "total": all.len(),
            "filtered": wanted.len(),
            "count": page.len(),
            "entities": page,
        })))
    }

    /// One run.
    pub(super) fn run(&self, code: &str, id: &str) -> Result<Answer, QaseError> {
        self.check_code(code)?;
        self.find_run(id).map(Answer::ok)
    }

    pub(super) fn create_run(
        &mut self,
        code: &str,
        received: &Received,
    ) -> Result<Answer, QaseError> {
        self.check_code(code)?;
        let body = object(received)?;
        let title = body["title"]
            .as_str()
            .filter(|title| !title.is_empty())
            .ok_or_else(|| QaseError::invalid("title", "The title field is required."))?;
        let id = self.runs.len() as u64 + 1;
        self.runs.push(json!({
            "id": id,
            "title": title,
            "status": 0,
            "status_text": "active",
            "start_time": "2026-11-23T05:10:00+00:00",
            "end_time": null,
            "stats": {"total": 0, "statuses": {}},
            "time_spent": 0,
            "cases": body["cases"].as_array().cloned().unwrap_or_default(),
        }));
        Ok(Answer::ok(&json!({"id": id})))
    }

    /// Completes an active run.
    pub(super) fn complete_run(&mut self, code: &str, id: &str) -> Result<Answer, QaseError> {
        self.check_code(code)?;
        let id = self.find_run(id)?["id"].clone();
        for run in self.runs.iter_mut().filter(|run| run["id"] == id) {
            run["status"] = json!(1);
            run["status_text"] = json!("complete");
        }
        Ok(Answer {
            status: StatusCode::OK,
            body: json!({"status": true}),
        })
    }

    pub(super) fn create_result(
        &mut self,
        code: &str,
        run: &str,
        received: &Received,
    ) -> Result<Answer, QaseError> {
        self.check_code(code)?;
        let run = self.find_run(run)?["id"].clone();
        let body = object(received)?;
        let hash = self.add_result(&run, &body)?;
        Ok(Answer::ok(
            &json!({"case_id": body["case_id"], "hash": hash}),
        ))
    }

    /// Up to 2,000 results at once; all or none.
    pub(super) fn create_results(
        &mut self,
        code: &str,
        run: &str,
        member: &str,
        success: StatusCode,
        received: &Received,
    ) -> Result<Answer, QaseError> {
        self.check_code(code)?;
        let run = self.find_run(run)?["id"].clone();
        let body = object(received)?;
        let results = body[member]
            .as_array()
            .filter(|results| (1..=2000).contains(&results.len()))
            .ok_or_else(|| QaseError::invalid(member, "Between 1 and 2000 results."))?;
        for result in results {
            check_status(result)?;
        }
        for result in results {
            self.add_result(&run, result)?;
        }
        Ok(Answer {
            status: success,
            body: json!({"status": true}),
        })
    }

    fn add_result(&mut self, run: &Value, result: &Value) -> Result<String, QaseError> {
        let status = check_status(result)?;
        let hash = random::hex::<20>();
        self.results.push(json!({
            "hash": hash,
            "run_id": run,
            "case_id": result["case_id"],
            "status": status,
            "time_spent_ms": result["time_ms"],
            "end_time": "2026-11-23T05:10:00+00:00",
        }));
        Ok(hash)
    }

    fn find_run(&self, id: &str) -> Result<&Value, QaseError> {
        let missing = || QaseError::new(StatusCode::NOT_FOUND, "Run not found.");
        let id: u64 = id.parse().map_err(|_| missing())?;
        let found = self.runs.iter().find(|run| run["id"] == id);
        found.ok_or_else(missing)
    }
}

impl Kind {
    fn matches(self, entity: &Value, query: &Query) -> bool {
        match self {
            Self::Run => true,
            Self::Result => query.text("run").is_none_or(|runs| {
                runs.split(',')
                    .any(|run| run.parse().is_ok_and(|run: u64| entity["run_id"] == run))
            }),
            Self::Defect => query
                .text("status")
                .is_none_or(|status| entity["status"] == status),
        }
    }
}

/// A result's status: a text in v1, in v2 a member of `execution`.
fn check_status(result: &Value) -> Result<&str, QaseError> {
    result["status"]
        .as_str()
        .or(result["execution"]["status"].as_str())
        .ok_or_else(|| QaseError::invalid("status", "The status field is required."))
}

fn object(received: &Received) -> Result<Value, QaseError> {
    received
        .json()
        .filter(Value::is_object)
        .ok_or_else(|| QaseError::new(StatusCode::BAD_REQUEST, "The body is no JSON object."))
}

struct Query(Vec<(String, String)>);

/// How much of a list is wanted, and from where on.
fn page(query: &Query) -> Result<(usize, usize), QaseError> {
    let limit = query.number("limit", 10)?;
    if !(1..=100).contains(&limit) {
        let error = "The limit must be between 1 and 100.";
        return Err(QaseError::invalid("limit", error));
    }
    let offset = query.number("offset", 0)?;
    let as_size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok((as_size(limit), as_size(offset)))
}

impl Query {
    fn text(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find_map(|(key, value)| (key == name).then_some(value.as_str()))
    }

    fn number(&self, name: &str, default: u64) -> Result<u64, QaseError> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .map_err(|_| QaseError::invalid(name, format!("The {name} must be an integer."))),
        }
    }
}
