//! The only crate that knows the model API: any OpenAI-compatible server, streamed.
//!
//! async-openai sends the requests and reads the streams. This crate adds what it lacks: deadlines for
//! connection, first token, silence and the whole call; errors sorted into the classes of [`TABLE`];
//! one owner of retries; and the certainty that an answer is whole.
//!
//! ```no_run
//! # async fn tell(request: llm::Request) -> Result<(), llm::Error> {
//! let client = llm::Client::new(llm::Settings::new("http://127.0.0.1:8080/v1"))?;
//! let mut call = client.stream(&request);
//! while let Some(piece) = call.next().await? {
//!     match piece {
//!         llm::Piece::Text(text) => print!("{text}"),
//!         llm::Piece::Restart { class } => println!("\n[{class}: from the start]"),
//!         llm::Piece::End(completion) => println!("\n{:?}", completion.usage),
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Neither prompts nor answers nor the key are logged here. async-openai itself logs frames that it cannot
//! read: a program's log filter has to include [`QUIET`].

mod attempt;
mod call;
mod chain;
mod class;
mod client;
mod completion;
mod error;
mod gate;
mod lenient;
mod limits;
mod moderation;
mod observer;
mod paid;
mod price;
mod recorded;
mod refusal;
mod request;
mod service;
mod settings;
mod structured;
mod tape;
mod text;
mod tokens;
mod wire;

pub use call::Call;
pub use chain::{Manner, Model};
pub use class::{Class, Retry, Row, TABLE};
pub use client::Client;
pub use completion::{Completion, Finish, Piece, Usage};
pub use error::Error;
pub use gate::{Asked, Done, Gate, Kind, Leave, Most, Pass, Spent};
pub use moderation::Moderation;
pub use observer::{Ended, Observer};
pub use paid::{Bought, Paid};
pub use price::Price;
pub use recorded::{Answer, Failed, Recorded, Took, Try};
pub use request::{Labels, Message, Request, Schema};
pub use settings::{Deadlines, Settings};
pub use structured::{Short, Structured, TooLong, Unreadable, read};
pub use tape::Tape;
pub use text::Text;
pub use tokens::{Counter, Counting, Encoding, Gauge, known_window};

/// A log filter's directive against async-openai's own error events, which quote answers.
pub const QUIET: &str = "async_openai=off";

#[cfg(test)]
mod tests {
    use super::*;

    fn send<T: Send>(_: T) {}

    #[test]
    fn calls_can_move_between_threads() {
        let client = Client::new(Settings::default()).unwrap();
        let mut call = client.stream(&Request::default());
        send(call.next());
        send(call);
        send(client.answer(&Request::default()));
        send(client.moderate(None, "", &Labels::default()));
        send(client.models(0));
    }
}
