//! The first words between a client and PostgreSQL: start-up packet, and what is said to it
//! (PostgreSQL documentation, "Message Formats", protocol 3.0).

/// Protocol 3.0.
const VERSION: u32 = 0x0003_0000;
/// No message before a session begins is longer; also libpq takes it for something else then.
const LONGEST: usize = 30_000;

/// The start-up packet of a client that would be `user` and use `database`.
///
/// A NUL in a value ends it there.
pub fn startup(user: &str, database: &str) -> Vec<u8> {
    let mut body = VERSION.to_be_bytes().to_vec();
    for text in ["user", user, "database", database, "application_name", "vipd"] {
        body.extend(text.bytes().take_while(|b| *b != 0));
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body].concat()
}

/// What a client says that goes away.
pub const TERMINATE: [u8; 5] = [b'X', 0, 0, 0, 4];

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who the client is must be proved, in the way with this number.
    Authentication(u32),
    /// The client is in, without any proof; more follows.
    Welcome,
    /// The session can begin.
    Ready,
    /// No.
    Refusal(Refusal),
    /// Something that does not matter here.
    Other(u8),
}

/// An error that ends the conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Its SQLSTATE; empty where the server is too ill to give one.
    pub code: String,
    /// In words.
    pub text: String,
}

impl Refusal {
    /// Whether a server says so that could serve somebody else: who was asking was wrong
    /// (class 28), or may not use that database (42501).
    pub fn is_about_the_client(&self) -> bool {
        self.code.starts_with("28") || self.code == "42501"
    }
}

/// Bytes that no PostgreSQL server says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what answers is not PostgreSQL")]
pub struct NotPostgresql;

/// The first message in `bytes`, and how many bytes it is long; `None` if it is not all there.
///
/// # Errors
/// If the bytes cannot be one.
pub fn message(bytes: &[u8]) -> Result<Option<(Message, usize)>, NotPostgresql> {
    let Some((&kind, after)) = bytes.split_first() else { return Ok(None) };
    if !matches!(kind, b'R' | b'E' | b'N' | b'S' | b'K' | b'Z' | b'v') {
        return Err(NotPostgresql);
    }
    let Some(&length) = after.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(4..=LONGEST).contains(&length) {
        // A server that cannot even fork says so as in the old days: an E and a text.
        return if kind == b'E' { old(after) } else { Err(NotPostgresql) };
    }
    let Some(body) = after.get(4..length) else { return Ok(None) };
    let number = || body.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(NotPostgresql);
    let message = match kind {
        b'R' => match number()? {
            0 => Message::Welcome,
            way => Message::Authentication(way),
        },
        b'E' => Message::Refusal(refusal(body)),
        b'Z' => Message::Ready,
        other => Message::Other(other),
    };
    Ok(Some((message, length + 1)))
}

/// An error of protocol 2: a text up to a NUL.
fn old(text: &[u8]) -> Result<Option<(Message, usize)>, NotPostgresql> {
    match text.iter().position(|b| *b == 0) {
        Some(end) => {
            let refusal = Refusal { code: String::new(), text: words(&text[..end]) };
            Ok(Some((Message::Refusal(refusal), end + 2)))
        }
        None if text.len() > LONGEST => Err(NotPostgresql),
        None => Ok(None),
    }
}

/// Fields of a letter and a text each, up to a NUL.
fn refusal(body: &[u8]) -> Refusal {
    let mut found = Refusal::default();
    for field in body.split(|b| *b == 0) {
        match field.split_first() {
            Some((b'C', code)) => found.code = words(code),
            Some((b'M', text)) => found.text = words(text),
            Some(_) | None => {}
        }
    }
    found
}

/// Text without what would steer a terminal, and not too much of it.
fn words(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    #[test]
    fn a_start_up_packet_is_as_the_protocol_says() {
        let packet = startup("vipd", "a\0pp");
        let expected = b"\0\x03\0\0user\0vipd\0database\0a\0application_name\0vipd\0\0";
        assert_eq!(&packet[4..], expected);
        assert_eq!(packet[..4], [0, 0, 0, u8::try_from(packet.len()).unwrap()]);
    }

    #[test]
    fn answers_are_told_apart() {
        let error = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        let refusal =
            Refusal { code: "57P03".into(), text: "the database system is starting up".into() };
        let rows = [
            (bytes(b'R', &[0, 0, 0, 10, b'S', 0, 0]), Message::Authentication(10)),
            (bytes(b'R', &[0, 0, 0, 0]), Message::Welcome),
            (bytes(b'Z', b"I"), Message::Ready),
            (bytes(b'S', b"a\0b\0"), Message::Other(b'S')),
            (bytes(b'E', error), Message::Refusal(refusal)),
            (
                b"Ecould not fork\0".to_vec(),
                Message::Refusal(Refusal { code: String::new(), text: "could not fork".into() }),
            ),
        ];
        for (bytes, expected) in rows {
            let all = [&bytes[..], b"more"].concat();
            assert_eq!(message(&all), Ok(Some((expected, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(message(&bytes[..cut]), Ok(None), "{cut} of {bytes:?}");
            }
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            &b"HTTP/1.1 400"[..],
            b"SSH-2.0-x",
            b"\0\0\0\0\0",
            b"R\xff\xff\xff\xff",
            b"R\0\0\0\x05x",
        ] {
            assert_eq!(message(bad), Err(NotPostgresql), "{bad:?}");
        }
        assert_eq!(message(&vec![b'E'; LONGEST + 2]), Err(NotPostgresql));
    }

    #[test]
    fn whoever_is_told_who_he_is_talks_to_one_that_lives() {
        let refusal = |code: &str| Refusal { code: code.into(), text: String::new() };
        for code in ["28000", "28P01", "42501"] {
            assert!(refusal(code).is_about_the_client(), "{code}");
        }
        for code in ["57P03", "53300", "08P01", "3D000", "XX000", ""] {
            assert!(!refusal(code).is_about_the_client(), "{code}");
        }
    }
}
