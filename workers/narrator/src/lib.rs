//! The narrator agent.
