//! The platform's edge: stories over WebSocket, SSE and HTTP, for whoever has a token. A reader's way: [`auth`] says who
//! they are and what they may do, a hub gives them each character of a story once, a session speaks with them.

pub mod auth;
mod hub;
