//! The way to the gateway as any client has it: nodes as processes, tokens, and clients of our own for WebSocket and SSE
//! that know nothing of the gateway's code but its addresses.

mod line;
mod node;
mod socket;
mod stream;
mod token;

pub use line::Line;
pub use node::Node;
pub use socket::{Heard, Socket};
pub use stream::{Sent, Stream};
pub use token::{Issuer, Person};
