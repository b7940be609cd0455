//! What a request has of tokens, counted exactly and estimated.

use super::*;
use crate::Message;
use proptest::prelude::*;

fn request(text: &str) -> Request {
    Request {
        messages: vec![Message::user(text)],
        ..Request::default()
    }
}

fn told(prompt: u32) -> Usage {
    Usage {
        prompt,
        known: true,
        ..Usage::default()
    }
}

#[test]
fn a_model_is_known_by_its_name() {
    for (model, encoding, window) in [
        ("gpt-4o-mini", Some(Encoding::O200k), Some(128_000)),
        ("openai/gpt-4o", Some(Encoding::O200k), Some(128_000)),
        ("ft:gpt-4o:us::1", Some(Encoding::O200k), Some(128_000)),
        ("gpt-4", Some(Encoding::Cl100k), Some(8_192)),
        ("gpt-3.5-turbo", Some(Encoding::Cl100k), Some(16_385)),
        ("llama3.1:8b", None, None),
        ("mock", None, None),
        ("", None, None),
    ] {
        let known = (Encoding::of(model), known_window(model));
        assert_eq!(known, (encoding, window), "{model}");
    }
}

/// Counts that OpenAI's own tokeniser gives.
#[test]
fn tokens_of_a_known_tokeniser_are_counted_exactly() {
    for (encoding, text, tokens) in [
        (Encoding::O200k, "", 0),
        (Encoding::O200k, "hello world", 2),
        (Encoding::O200k, "お誕生日おめでとう", 8),
        (Encoding::Cl100k, "hello world", 2),
        (Encoding::Cl100k, "お誕生日おめでとう", 9),
        (Encoding::Cl100k, "antidisestablishmentarianism", 6),
    ] {
        let counter = Counter::new(Counting::Exact(encoding));
        assert_eq!(counter.count(text), tokens, "{encoding:?} {text}");
        assert_eq!(counter.count(text), tokens, "remembered");
    }
}

#[test]
fn an_estimate_follows_what_the_provider_counts_and_never_beyond_belief() {
    let gauge = Gauge::new(None);
    let by = || gauge.counter().by();
    assert_eq!(by(), Counting::Estimate(333));
    let asked = request(&"x".repeat(1_000));
    let around = 7;
    gauge.learn(&asked, &told(533 + around));
    assert_eq!(by(), Counting::Estimate(433), "half of the way up");
    for _ in 0..400 {
        gauge.learn(&asked, &told(250 + around));
    }
    let Counting::Estimate(low) = by() else {
        panic!("{:?}", by())
    };
    assert!((250..250 + 32).contains(&low), "{low}");
    for untold in [Usage::default(), told(0), told(3)] {
        gauge.learn(&asked, &untold);
        gauge.learn(&request("short"), &told(500));
    }
    assert_eq!(by(), Counting::Estimate(low));
    for _ in 0..20 {
        gauge.learn(&asked, &told(u32::MAX));
    }
    assert_eq!(by(), Counting::Estimate(1_000));
    for _ in 0..2_000 {
        gauge.learn(&asked, &told(around + 1));
    }
    assert!(matches!(by(), Counting::Estimate(100..132)), "{:?}", by());
}

#[test]
fn what_is_chosen_by_steady_counts_stays_while_estimates_move() {
    let steady = |tokens| Counting::Estimate(tokens).steady();
    for (tokens, step) in [
        (100, 333),
        (250, 333),
        (333, 333),
        (334, 500),
        (1_000, 1_000),
    ] {
        assert_eq!(steady(tokens), Counting::Estimate(step));
    }
    let exact = Counting::Exact(Encoding::O200k);
    assert_eq!(exact.steady(), exact);
}

#[test]
fn what_is_remembered_has_a_bound() {
    let mut known = Known::default();
    for number in 0..20 {
        known.keep(&format!("{number}{}", "x".repeat(REMEMBERED / 10)), 1);
        let bytes: usize = known.tokens.keys().map(|text| text.len()).sum();
        assert_eq!(bytes, known.bytes);
        assert!(bytes <= REMEMBERED);
    }
    known.keep(&"x".repeat(REMEMBERED + 1), 1);
    assert_eq!((known.tokens.len(), known.bytes), (0, 0));
}

#[test]
fn a_way_to_count_is_written_plainly() {
    for (counting, json) in [
        (
            Counting::Exact(Encoding::O200k),
            r#"{"exact":"o200k_base"}"#,
        ),
        (Counting::Estimate(333), r#"{"estimate":333}"#),
    ] {
        assert_eq!(serde_json::to_string(&counting).unwrap(), json);
        assert_eq!(serde_json::from_str::<Counting>(json).unwrap(), counting);
    }
}

proptest! {
    #[test]
    fn lines_have_as_many_tokens_as_the_text(text in "([a-zA-Zé'漢 /.<>#-]{0,12}|[\r\n\t /\u{a0}\u{2028}]{1,3}|\n|.{0,3}){0,24}") {
        for encoding in [Encoding::O200k, Encoding::Cl100k] {
            let counted = Counter::new(Counting::Exact(encoding)).count(&text);
            prop_assert_eq!(counted, encoding.loaded().count_ordinary(&text));
        }
        prop_assert_eq!(lines(&text).collect::<String>(), text);
    }

    #[test]
    fn parts_are_estimated_at_no_less_than_the_whole(parts in prop::collection::vec(".{0,9}", 0..9), tokens in 100_u32..=1_000) {
        let counter = Counter::new(Counting::Estimate(tokens));
        let sum: usize = parts.iter().map(|part| counter.count(part)).sum();
        prop_assert!(counter.count(&parts.concat()) <= sum);
    }
}
