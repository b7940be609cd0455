//! `storyfleet up`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use agent::spans::Traces;
use clap::Args;
use mock_llm::scenario::Rate;
use secrecy::SecretString;
use story::StoryId;

#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// The model: `mock`, or the base URL of an OpenAI-compatible server
    // Nobody should put a password into it; --help must not show one all the same.
    #[arg(
        long,
        env = "LLM_URL",
        hide_env_values = true,
        default_value = "mock",
        value_name = "mock|URL"
    )]
    pub(crate) llm: String,

    /// The model's name at that server: needed with a URL
    #[arg(long, env = "LLM_MODEL", value_name = "M")]
    pub(crate) model: Option<String>,

    /// Key of that server; better given by the variable than on the command line
    #[arg(long, env = "LLM_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) llm_key: Option<SecretString>,

    /// Take `[DONE]` for a whole answer: for a server that never tells a finish reason
    #[arg(long, env = "LLM_ACCEPT_DONE", value_parser = clap::builder::BoolishValueParser::new())]
    pub(crate) llm_accept_done: bool,

    /// A file (YAML) of what models cost and may be asked: docs/models.md
    #[arg(long, env = "STORYFLEET_MODELS", value_name = "FILE")]
    pub(crate) models: Option<PathBuf>,

    /// How many events each agent answers at once
    #[arg(long, default_value = "16", value_name = "N")]
    pub(crate) workers: NonZeroUsize,

    /// Share of the mock's calls that fail, 0 to 1
    #[arg(long, default_value = "0", value_name = "P")]
    pub(crate) fault_rate: Rate,

    /// Where the gateway listens [default: 127.0.0.1:8080, or any free port where that is taken or --llm's]
    #[arg(long, env = "STORYFLEET_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Where the gateway has /metrics, /livez and /readyz
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    pub(crate) internal_listen: SocketAddr,

    /// The story to create for a start, unless it is there
    #[arg(long, default_value = "demo", value_name = "STORY")]
    pub(crate) demo: StoryId,

    /// What is logged to stderr, as in RUST_LOG
    #[arg(
        long,
        env = "RUST_LOG",
        default_value = "warn",
        value_name = "DIRECTIVES"
    )]
    pub(crate) log_filter: String,

    #[command(flatten)]
    pub(crate) traces: Traces,
}
