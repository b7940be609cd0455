//! A program that exports no spans.

use clap::Args;
use story::Traceparent;
use tracing::Span;
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Identity, Layer};

/// Where spans go: nowhere.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
pub struct Traces {}

/// Nothing is to be sent at the end.
#[derive(Debug, Default)]
pub struct Exporting {}

pub(crate) fn layer(
    _: &Traces,
    _: &'static str,
) -> anyhow::Result<(Option<impl Layer<Registry>>, Exporting)> {
    Ok((None::<Identity>, Exporting {}))
}

pub(crate) fn adopt(_: &Span, _: &Traceparent) {}

pub(crate) fn carried(_: &Span) -> Option<Traceparent> {
    None
}

pub(crate) fn list(_: &Span, _: &'static str, _: &'static str) {}
