//! The dialogue agent.
