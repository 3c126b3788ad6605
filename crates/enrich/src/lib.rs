//! The dataset: agents, refusals, identity, routing, benign twins, splits and manifest.
