//! What a notification says, with what is private apart.

use serde_json::{Map, Value, json};

use crate::error::Error;
use crate::preflight::{CheckStatus, PreflightReport};
use crate::summary::Summary;

/// A notification: a line and the figures behind it, and apart from them what may hold words of a conversation.
#[derive(Debug, Clone)]
pub struct Message {
    line: String,
    figures: Map<String, Value>,
    /// Words and data that are only sent by choice.
    private: (String, Map<String, Value>),
    problem: bool,
}

impl Message {
    /// A finished night.
    pub fn of_night(summary: &Summary) -> Self {
        let held_out = summary.scores.held_out();
        let failed: Vec<_> = summary.verdict.failed().map(|rule| rule.rule.as_str()).collect();
        let rules = match failed.is_empty() {
            true => String::new(),
            false => format!("; failed: {}", failed.join(", ")),
        };
        let figures = json!({
            "night": summary.night, "outcome": summary.outcome, "partial": summary.partial,
            "seconds": summary.seconds, "updates": summary.training.updates,
            "planned_updates": summary.training.planned_updates,
            "held_out": held_out.map(|(base, candidate)| json!({ "base": base, "candidate": candidate })),
            "failed_rules": failed,
        });
        let sample = summary.sample.as_ref().map(|sample| {
            let (agent, question) = (&sample.agent, &sample.question);
            format!(
                "{agent}, asked: {question}\nbefore: {}\nafter: {}",
                sample.before, sample.after
            )
        });
        let texts = [Some(summary.verdict.reason.clone()), summary.standing.clone(), sample];
        let texts: Vec<_> = texts.into_iter().flatten().collect();
        Self {
            line: summary.line() + &rules,
            figures: object(figures),
            private: (texts.join("\n"), object(json!({ "summary": summary }))),
            problem: false,
        }
    }

    /// A night that an error has stopped.
    pub fn of_stopped_night(night: &str, error: &Error) -> Self {
        let kind = error.kind();
        let figures = json!({ "night": night, "stopped": kind, "exit_code": error.exit_code() });
        Self {
            line: format!("night {night} stopped: {kind}"),
            figures: object(figures),
            private: (error.to_string(), object(json!({ "error": error.to_string() }))),
            problem: true,
        }
    }

    /// The same message, and what to do.
    pub(crate) fn with_advice(mut self, advice: &str) -> Self {
        self.line.push_str(advice);
        self
    }

    /// A preflight.
    pub fn of_preflight(report: &PreflightReport) -> Self {
        let checks = report.checks.iter();
        let named: Vec<_> = checks
            .clone()
            .map(|check| json!({ "suite": check.group, "check": check.check, "status": check.status }))
            .collect();
        let open = |status| matches!(status, CheckStatus::Failed | CheckStatus::NotRun);
        let details: Vec<_> = checks
            .filter(|check| open(check.status))
            .map(|check| format!("{}: {}", check.check, check.detail))
            .collect();
        let figures = json!({
            "preflight": {
                "model": report.model, "ok": report.ok, "passed": report.passed, "failed": report.failed,
                "not_run": report.not_run, "checks": named,
            },
        });
        Self {
            line: report.names(),
            figures: object(figures),
            private: (details.join("\n"), object(json!({ "report": report }))),
            problem: !report.ok,
        }
    }

    /// Whether somebody should look.
    pub(super) fn is_problem(&self) -> bool {
        self.problem
    }

    /// The line; with what is private below it. Control characters become spaces.
    pub(super) fn text(&self, private: bool) -> String {
        let line = one_line(&self.line);
        let more = self.private.0.lines().map(one_line).filter(|line| !line.trim().is_empty());
        match private {
            true => std::iter::once(line).chain(more).collect::<Vec<_>>().join("\n"),
            false => line,
        }
    }

    /// The line and the data, as an object.
    pub(super) fn json(&self, private: bool) -> Value {
        let mut object = Map::from_iter([("line".to_owned(), json!(one_line(&self.line)))]);
        object.extend(self.figures.clone());
        if private {
            object.extend(self.private.1.clone());
        }
        Value::Object(object)
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}
