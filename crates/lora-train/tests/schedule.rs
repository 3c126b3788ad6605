//! Learning rates compared with those of MLX (`fixtures/golden/optimizers.py`).

use std::path::Path;

use lora_train::config::{LrSchedule, ScheduleName, ScheduleUnit};
use lora_train::{Schedule, TrainConfig};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    #[serde(flatten)]
    schedule: LrScheduleFields,
    rates: Vec<f64>,
}

/// The fields of [`LrSchedule`], which itself refuses unknown fields.
#[derive(Deserialize)]
struct LrScheduleFields {
    name: ScheduleName,
    arguments: Vec<f64>,
    warmup: u64,
    warmup_init: f64,
}

#[test]
fn agrees_with_mlx() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/schedules.json");
    let goldens: Vec<Golden> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(goldens.len(), 8);
    for Golden { schedule, rates } in goldens {
        let LrScheduleFields { name, arguments, warmup, warmup_init } = schedule;
        let peak = arguments[0];
        let mut settings = LrSchedule::new(name, arguments);
        (settings.warmup, settings.warmup_init) = (warmup, warmup_init);
        let mut config = TrainConfig::default();
        config.lr_schedule = Some(settings);
        let schedule = Schedule::new(&config, 0).unwrap();
        for (update, expected) in rates.into_iter().enumerate() {
            let rate = schedule.at(update as u64);
            // MLX computes in f32, with seven digits of the largest rate.
            assert!(
                (rate - expected).abs() <= 3e-7 * peak,
                "{name:?} at {update}: {rate:e}, MLX {expected:e}",
            );
        }
    }
}

fn cosine(warmup: u64) -> TrainConfig {
    let mut schedule = LrSchedule::new(ScheduleName::CosineDecay, [1.0, 100.0]);
    schedule.warmup = warmup;
    let mut config = TrainConfig::default();
    config.lr_schedule = Some(schedule);
    config.grad_accumulation_steps = 4;
    config
}

#[test]
fn without_a_schedule_the_rate_is_constant() {
    let mut config = TrainConfig::default();
    config.learning_rate = 2e-4;
    let schedule = Schedule::new(&config, 10).unwrap();
    assert!((0..20).all(|update| schedule.at(update) == 2e-4));
    assert_eq!(
        (schedule.peak(), schedule.warmup_updates(), schedule.ends_after()),
        (2e-4, 0, None)
    );
}

#[test]
fn with_iterations_as_unit_the_schedule_advances_by_the_accumulation() {
    let by_updates = Schedule::new(&cosine(8), 30).unwrap();
    let mut config = cosine(8);
    config.nightshift.schedule_unit = ScheduleUnit::Iterations;
    let by_iterations = Schedule::new(&config, 30).unwrap();
    for update in 0..40 {
        assert_eq!(by_iterations.at(update), by_updates.at(4 * update));
    }
    assert_eq!((by_updates.warmup_updates(), by_updates.ends_after()), (8, Some(109)));
    assert_eq!((by_iterations.warmup_updates(), by_iterations.ends_after()), (2, Some(28)));
}

#[test]
fn a_warmup_share_is_of_the_updates_of_the_run() {
    for unit in [ScheduleUnit::Updates, ScheduleUnit::Iterations] {
        let mut config = cosine(0);
        config.nightshift.warmup_share = Some(0.1);
        config.nightshift.schedule_unit = unit;
        let schedule = Schedule::new(&config, 50).unwrap();
        assert_eq!(schedule.warmup_updates(), 5);
        assert_eq!(schedule.at(0), 0.0);
        assert_eq!(schedule.at(5), 1.0);
        assert!(schedule.at(7) < 1.0);
    }
}

#[test]
fn after_its_end_a_schedule_is_constant() {
    let schedule = Schedule::new(&cosine(8), 30).unwrap();
    assert_eq!(schedule.at(u64::MAX), 0.0);
    assert_eq!(schedule.at(109), schedule.at(1_000_000));
}
