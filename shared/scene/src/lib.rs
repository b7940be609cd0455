//! What prompts see of a story, and how agents have the model tell a part of it.
//!
//! Views are plain data for templates, in a fixed order, so that equal contexts give equal prompts. Every text in them
//! that a person or a model wrote has passed [`Fence::plain`]: it is one line and cannot end its fence or open a heading.
//! The name of a person has passed [`player`]: it is short and nobody else's.

mod budget;
mod build;
mod recall;
mod section;
mod sentences;
mod structured;
mod tell;
mod trailer;
mod unfenced;
mod view;

pub use agent::fence::{Fence, plain};
pub use budget::Budget;
pub use build::{Ask, Built, Parts, build, fits};
pub use sentences::sentences;
pub use structured::structured;
pub use tell::{End, Told, tell};
pub use view::{Fact, Line, Person, Setting, people, person, player, said};
