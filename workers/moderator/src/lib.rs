//! The moderator agent.
