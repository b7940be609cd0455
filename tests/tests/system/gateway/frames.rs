//! Conformance with RFC 6455, case by case over bare TCP; the groups are those of the Autobahn test suite.

use gateway::auth::Role;
use story::MAX_EVENT_BYTES;

use super::bytes::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, Raw, TEXT, frame};
use super::{Edge, says};

const FIN: u8 = 0x80;
const PING_MESSAGE: &[u8] = br#"{"t":"ping","ref":5}"#;

async fn raw(edge: &Edge) -> anyhow::Result<Raw> {
    Raw::open(edge.address(), &edge.token("mira", Role::Author)?).await
}

/// Group 2: control frames are answered with what they carry, also between the parts of a message.
#[tokio::test]
async fn pings_are_answered_and_pongs_are_not() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut raw = raw(&edge).await?;
    let longest = [7; 125];
    for payload in [&b""[..], b"hello", &[0, 255, 254, 253], &longest] {
        raw.send(FIN | PING, payload).await?;
        let pong = Frame {
            opcode: PONG,
            payload: payload.to_vec(),
        };
        assert_eq!(raw.frame().await?, pong);
    }
    // Byte by byte.
    for byte in frame(FIN | PING, b"slow") {
        raw.write(&[byte]).await?;
    }
    assert_eq!(raw.frame().await?.payload, b"slow");
    raw.send(FIN | PONG, b"unasked").await?;
    raw.send(FIN | PONG, b"").await?;
    raw.lives().await?;
    for n in 0..10 {
        raw.send(FIN | PING, &[n]).await?;
    }
    for n in 0..10 {
        assert_eq!(raw.frame().await?.payload, [n]);
    }
    edge.stack.end().await;
    Ok(())
}

/// Group 5: messages in parts.
#[tokio::test]
async fn a_message_in_parts_is_one_message() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut raw = raw(&edge).await?;
    let (first, rest) = PING_MESSAGE.split_at(7);
    let (second, third) = rest.split_at(5);
    raw.send(TEXT, first).await?;
    raw.send(CONTINUATION, second).await?;
    raw.send(FIN | PING, b"between").await?;
    assert_eq!(raw.frame().await?.payload, b"between");
    raw.send(CONTINUATION, b"").await?;
    raw.send(FIN | CONTINUATION, third).await?;
    assert_eq!(raw.message().await?["ref"], 5);
    // A byte a part, all in one write.
    let mut bytes = frame(TEXT, b"");
    for byte in PING_MESSAGE {
        bytes.extend(frame(CONTINUATION, &[*byte]));
    }
    bytes.extend(frame(FIN | CONTINUATION, b""));
    raw.write(&bytes).await?;
    assert_eq!(raw.message().await?["ref"], 5);
    raw.lives().await?;
    edge.stack.end().await;
    Ok(())
}

/// Group 6: a character may be split between parts and must be whole at the end.
#[tokio::test]
async fn text_is_utf_8_wherever_it_is_split() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut reader = edge.joined("oren", None).await?;
    let mut raw = raw(&edge).await?;
    raw.send(FIN | TEXT, br#"{"t":"join","story":"castle"}"#)
        .await?;
    // And who is here, when it is known.
    let mut awaited = vec!["ok", "live"];
    while !awaited.is_empty() {
        let heard = raw.message().await?;
        awaited.retain(|kind| heard["t"] != **kind);
    }
    let text = r#"{"t":"publish","story":"castle","event":{"mode":"do","text":"κόσμε 🜂"}}"#;
    raw.send(TEXT, b"").await?;
    for byte in &text.as_bytes()[..text.len() - 1] {
        raw.send(CONTINUATION, &[*byte]).await?;
    }
    raw.send(FIN | CONTINUATION, b"}").await?;
    reader.until("it", |frame| says(frame, "κόσμε 🜂")).await?;
    for bad in [
        &b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80"[..],
        b"\xf4\x90\x80\x80",
        b"\xc0\xaf",
        b"\xff",
        b"\"\xe2\x82",
    ] {
        let mut raw = super::frames::raw(&edge).await?;
        raw.send(FIN | TEXT, bad).await?;
        assert_eq!(raw.closed().await?, 1007, "{bad:?}");
    }
    edge.stack.end().await;
    Ok(())
}

/// Groups 3 and 4, and what of 2 and 5 is wrong: the protocol is broken, which is 1002.
#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_1002() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let unmasked = [FIN | TEXT, 2, b'{', b'}'];
    let mut parts_in_parts = frame(TEXT, b"{");
    parts_in_parts.extend(frame(FIN | TEXT, b"}"));
    let mut bad: Vec<(&str, Vec<u8>)> = vec![
        ("a ping of 126 bytes", frame(FIN | PING, &[0; 126])),
        ("a pong of 126 bytes", frame(FIN | PONG, &[0; 126])),
        ("a close of 126 bytes", frame(FIN | CLOSE, &[3; 126])),
        ("a ping in parts", frame(PING, b"x")),
        ("a close in parts", frame(CLOSE, b"")),
        ("a part of nothing", frame(FIN | CONTINUATION, b"x")),
        ("a part of nothing, unended", frame(CONTINUATION, b"x")),
        ("a message in a message", parts_in_parts),
        ("no mask", unmasked.to_vec()),
        ("a close of one byte", frame(FIN | CLOSE, &[3])),
    ];
    for bit in [0x40, 0x20, 0x10, 0x70] {
        bad.push(("a reserved bit", frame(FIN | bit | TEXT, PING_MESSAGE)));
        bad.push(("a reserved bit of a ping", frame(FIN | bit | PING, b"x")));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        bad.push(("an opcode that is none", frame(FIN | opcode, b"x")));
    }
    for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999] {
        bad.push((
            "a close code that is none",
            frame(FIN | CLOSE, &code.to_be_bytes()),
        ));
    }
    for (what, bytes) in bad {
        let mut raw = raw(&edge).await?;
        raw.write(&bytes).await?;
        let code = raw.closed().await.map_err(|error| error.context(what))?;
        assert_eq!(code, 1002, "{what}: {:?}", &bytes[..bytes.len().min(12)]);
    }
    edge.stack.end().await;
    Ok(())
}

/// Group 7: the close handshake.
#[tokio::test]
async fn a_close_is_answered_with_its_code_and_ends_the_connection() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    for code in [
        1000_u16, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999,
    ] {
        let mut raw = raw(&edge).await?;
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend(b"enough");
        raw.send(FIN | CLOSE, &payload).await?;
        // What comes after it counts no more.
        raw.send(FIN | PING, b"late").await?;
        assert_eq!(raw.closed().await?, code);
    }
    let mut plain = raw(&edge).await?;
    plain.send(FIN | CLOSE, b"").await?;
    assert!(matches!(plain.closed().await?, 1000 | 1005));
    let mut bad = raw(&edge).await?;
    bad.send(FIN | CLOSE, &[3, 232, 0xff, 0xfe]).await?;
    assert!(matches!(bad.closed().await?, 1002 | 1007));
    edge.stack.end().await;
    Ok(())
}

/// Groups 1 and 9, in the sizes of this protocol, and what is a frame and no message of it.
#[tokio::test]
async fn what_is_too_large_or_no_message_has_its_own_code() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let most = MAX_EVENT_BYTES + 1_024;
    let padded = |bytes: usize| {
        let mut message = PING_MESSAGE.to_vec();
        message.resize(bytes, b' ');
        message
    };
    let mut fits = raw(&edge).await?;
    for bytes in [125, 126, 127, 65_535, 65_536, most] {
        fits.send(FIN | TEXT, &padded(bytes)).await?;
        assert_eq!(fits.message().await?["ref"], 5, "{bytes}");
    }
    let (first, rest) = (padded(most), [b' '; 1]);
    let mut in_parts = frame(TEXT, &first);
    in_parts.extend(frame(FIN | CONTINUATION, &rest));
    // Of a frame of 2^62 bytes its head alone comes.
    let huge = [FIN | TEXT, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4];
    for (what, bytes, code) in [
        ("a byte more", frame(FIN | TEXT, &padded(most + 1)), 1009),
        ("a byte more in parts", in_parts, 1009),
        ("a frame without end", huge.to_vec(), 1009),
        ("no JSON", frame(FIN | TEXT, b"hello"), 4400),
        ("half JSON", frame(FIN | TEXT, br#"{"t":"#), 4400),
        (
            "a second line that is none",
            frame(FIN | TEXT, b"{\"t\":\"ping\"}\n{"),
            4400,
        ),
        (
            "33 messages",
            frame(FIN | TEXT, "{\"t\":\"ping\"}\n".repeat(33).as_bytes()),
            4400,
        ),
        ("bytes", frame(FIN | BINARY, PING_MESSAGE), 4400),
        (
            "depth",
            frame(FIN | TEXT, "[".repeat(10_000).as_bytes()),
            4400,
        ),
    ] {
        let mut raw = raw(&edge).await?;
        raw.write(&bytes).await?;
        let closed = raw.closed().await.map_err(|error| error.context(what))?;
        assert_eq!(closed, code, "{what}");
    }
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn a_frame_has_32_messages_or_none() -> anyhow::Result<()> {
    let edge = Edge::start(&[]).await?;
    let mut many = raw(&edge).await?;
    many.send(
        FIN | TEXT,
        "{\"t\":\"ping\",\"ref\":5}\n".repeat(32).as_bytes(),
    )
    .await?;
    for _ in 0..32 {
        assert_eq!(many.message().await?["t"], "ok");
    }
    let mut empty = raw(&edge).await?;
    empty.send(FIN | TEXT, b"").await?;
    empty.send(FIN | TEXT, b"\n \n").await?;
    empty.send(FIN | TEXT, b"5").await?;
    assert_eq!(empty.message().await?["code"], "bad_message");
    empty.lives().await?;
    edge.stack.end().await;
    Ok(())
}

#[tokio::test]
async fn frames_with_nothing_in_them_have_their_bound_too() -> anyhow::Result<()> {
    let edge = Edge::start(&["--messages", "10"]).await?;
    for (first, payload) in [
        (FIN | PING, &b""[..]),
        (FIN | PONG, b"unasked"),
        (FIN | TEXT, b""),
        (FIN | TEXT, b"\n\n"),
    ] {
        // A burst of 80: four times that of messages.
        let mut modest = raw(&edge).await?;
        modest.write(&frame(first, payload).repeat(70)).await?;
        modest.send(FIN | TEXT, PING_MESSAGE).await?;
        while modest.frame().await?.opcode != TEXT {}
        modest.lives().await?;
        let mut flood = raw(&edge).await?;
        flood.write(&frame(first, payload).repeat(300)).await?;
        assert_eq!(flood.closed().await?, 4429, "{first:#x}");
    }
    edge.stack.end().await;
    Ok(())
}
