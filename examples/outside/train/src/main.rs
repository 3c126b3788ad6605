//! Trains an adapter for the demo's model, lets the base model and the candidate take an exam, and prints the verdict.
//!
//! Arguments: a training file (whose `data` names a folder with train.jsonl), a suite, and a folder for the two runs.

use std::{env, error::Error, ops::ControlFlow, path::Path};

use chat_format::ChatTokenizer;
use eval::{Evidence, Exam, ExamOptions, Gate, ModelAnswerer, Policy, Subject, Suite};
use lora_train::{Data, Progress, Start, TrainConfig, Trainer};
use models::{Adapter, Model};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [config, suite, runs] = &arguments[..] else {
        return Err("expected a training file, a suite and a folder".into());
    };
    let path = fetch::demo_model(&mut |_| ())?;
    let (model, tokenizer) = (Model::open(&path)?, ChatTokenizer::open(&path)?);

    let config = TrainConfig::load(config)?;
    let data = Data::open(&config, &tokenizer)?;
    let mut watch = |_: Progress<'_>| ControlFlow::Continue(());
    Trainer::new(model.clone(), config.clone(), data, Start::Fresh)?.run(&mut watch)?;

    let suite = Suite::load(suite)?;
    let take = |adapter: &Adapter, subject: Subject, name: &str| -> Result<_, Box<dyn Error>> {
        let mut answerer = ModelAnswerer::new(&model, adapter, &tokenizer, subject)?;
        let exam = Exam::new(&suite, ExamOptions::default());
        exam.sit(&mut answerer, Path::new(runs).join(name), &mut |_| ())?;
        Ok(eval::ExamRun::load(Path::new(runs).join(name))?)
    };
    let base = take(&Adapter::none(&model), Subject::of_files(&path, None)?, "base")?;
    let trained = Adapter::load(&config.adapter_path, &model)?;
    let subject = Subject::of_files(&path, Some(&config.adapter_path))?;
    let candidate = take(&trained, subject, "candidate")?;
    print!("{}", Gate::new(Policy::default())?.decide(&Evidence::new(&candidate, &base))?);
    Ok(())
}
