//! Builds a data set and counts the cases of an exam: `dataset-outside enrich.yaml suite.json data`.

use enrich::{Dataset, EnrichConfig};
use eval::Suite;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, config, suite, folder] = arguments.as_slice() else {
        return Err(
            "expected three paths: the configuration, the suite, and a folder for the data set"
                .into(),
        );
    };
    let config = EnrichConfig::load(config)?;
    Dataset::build(&config)?.write(folder, &config)?;
    println!("{}", Suite::load(suite)?.cases.len());
    Ok(())
}
