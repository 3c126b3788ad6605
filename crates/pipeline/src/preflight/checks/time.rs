//! Machine: whether the night's time suffices.

use jiff::Zoned;
use jiff::civil::time;

use crate::home::Home;
use crate::nights;
use crate::preflight::finding::Finding;
use crate::preflight::rehearsal::Rehearsal;
use crate::preflight::time_plan::TimePlan;
use crate::stages::StageName;
use crate::summary::Summary;

/// Training and exams fit into the budgets, by the speed of the two iterations and by the exams of the last night, or of the
/// rehearsal before the first.
pub(in crate::preflight) fn time_plan(rehearsal: &Rehearsal<'_>) -> Finding {
    let Some(training) = rehearsal.training.done() else {
        return Finding::not_run("needs two iterations");
    };
    let Some(speed) = training.tokens_per_second() else {
        return Finding::not_run("the two iterations were not run, so that nothing was measured");
    };
    let last = rehearsal.home.done().and_then(exams_of_last_night);
    let small = rehearsal.evaluation.done().zip(rehearsal.suite.done());
    let estimated = small.map(|(trial, suite)| {
        let options = &rehearsal.config.exam.options;
        let fresh = rehearsal.config.exam.fresh.as_ref().and_then(|fresh| fresh.cases);
        trial.seconds_of(suite.cases.len() + fresh.unwrap_or(suite.cases.len()), options)
    });
    let (exams, measured) = (last.or(estimated), last.is_some());
    let Some(exams) = exams else {
        return Finding::not_run("no exam was taken, so that nothing was measured");
    };
    let budgets = rehearsal.config.budgets;
    let plan = TimePlan { train: training.load.seconds(speed), exams, measured, budgets };
    let forecast = plan.from(&next_start(&rehearsal.now));
    match forecast.problem {
        Some(_) => Finding::warning(forecast),
        None => Finding::passed(forecast),
    }
}

/// The next time at which the schedule starts a night.
fn next_start(now: &Zoned) -> Zoned {
    let today = now.date().to_datetime(time(1, 0, 0, 0)).to_zoned(now.time_zone().clone());
    let next = today.ok().map(|at| match at > *now {
        true => Ok(at),
        false => at.tomorrow(),
    });
    next.and_then(Result::ok).unwrap_or_else(|| now.clone())
}

/// The seconds of both exams of the last night that took them.
fn exams_of_last_night(home: &Home) -> Option<f64> {
    let nights = nights::list(home).ok()?;
    nights.iter().rev().find_map(|night| {
        let stages = Summary::read(&night.dir(home))?.stages;
        let exams = [StageName::Exam, StageName::FreshExam];
        let taken = stages.iter().filter(|it| exams.contains(&it.stage) && !it.reused);
        let seconds: f64 = taken.map(|stage| stage.seconds).sum();
        (seconds > 0.0).then_some(seconds)
    })
}
