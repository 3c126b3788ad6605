//! Requests that come and go in a continuous batch, and the same by themselves.

use models::{Adapter, ContinuousBatch, GenerateOptions, Generator, Model, Prompt, Sampler};

use crate::rounding;

/// A request of the test: when it comes, its prompt, when it goes.
#[derive(Clone, Debug)]
pub struct Request {
    pub arrives: usize,
    pub prompt: Vec<u32>,
    pub tokens: usize,
}

/// What happens in the batch: requests arrive at their step, are processed in chunks, generate, leave.
pub fn served(model: &Model, requests: &[Request], chunk: usize) -> Vec<Vec<u32>> {
    let mut batch = ContinuousBatch::new(model, &Adapter::none(model)).unwrap();
    let mut answers = vec![Vec::new(); requests.len()];
    let mut waiting: Vec<(usize, Prompt)> = Vec::new();
    let mut running: Vec<usize> = Vec::new();
    let greedy = || Sampler::new(&GenerateOptions::default(), 0);
    for step in 0.. {
        let arriving = requests.iter().enumerate().filter(|(_, request)| request.arrives == step);
        waiting
            .extend(arriving.map(|(index, request)| (index, Prompt::new(request.prompt.clone()))));
        let mut prompts: Vec<&mut Prompt> = waiting.iter_mut().map(|(_, prompt)| prompt).collect();
        batch.process(&mut prompts, chunk).unwrap();
        for (index, prompt) in waiting.extract_if(.., |(_, prompt)| prompt.is_processed()) {
            answers[index].push(batch.join(&prompt, greedy()).unwrap());
            running.push(index);
        }
        for place in (0..running.len()).rev() {
            if answers[running[place]].len() >= requests[running[place]].tokens {
                batch.leave(place).unwrap();
                running.swap_remove(place);
            }
        }
        assert_eq!(batch.len(), running.len());
        for (&index, token) in running.iter().zip(batch.step().unwrap()) {
            answers[index].push(token);
        }
        let all_came = requests.iter().all(|request| request.arrives <= step);
        if all_came && waiting.is_empty() && running.is_empty() {
            break;
        }
    }
    assert_eq!(batch.cache_bytes() * batch.len(), 0, "an empty batch frees its caches");
    answers
}

pub fn alone(model: &Model, request: &Request) -> Vec<u32> {
    let adapter = Adapter::none(model);
    let options = GenerateOptions { max_tokens: request.tokens, ..Default::default() };
    let generator = Generator::new(model, &adapter).unwrap();
    generator.generate(&[&request.prompt], &options).unwrap().remove(0).tokens
}

/// Whether `answer` is what the request gets alone. In 16 bits products of other shapes round otherwise: a greedy
/// continuation within that.
pub fn is_alone(model: &Model, request: &Request, answer: &[u32]) -> bool {
    match rounding::in_f32(model) {
        true => answer == alone(model, request),
        false => {
            answer.len() == request.tokens && rounding::is_greedy(model, &request.prompt, answer)
        }
    }
}
