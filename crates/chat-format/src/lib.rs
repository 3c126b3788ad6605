//! Chat data: clean messages, templates, tokenizers, and which tokens are trained.
