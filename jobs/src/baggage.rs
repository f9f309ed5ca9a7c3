//! The `baggage` header of W3C: <https://www.w3.org/TR/baggage/>.
//!
//! ```text
//! baggage = member *( OWS "," OWS member )
//! member  = token OWS "=" OWS *octet *( OWS ";" OWS property )
//! octet   = visible ASCII but for `"`, `,`, `;` and `\`; what else there is, and `%`, is `%XX`
//! ```

use std::borrow::Cow;
use std::fmt;

/// What everybody on the way has to pass on.
pub(crate) const MOST_MEMBERS: usize = 64;
pub(crate) const MOST_BYTES: usize = 8192;

/// Adds a member. The key is a token, as it stands.
pub(crate) fn push(header: &mut String, key: &str, value: &str) {
    if !header.is_empty() {
        header.push(',');
    }
    header.push_str(key);
    header.push('=');
    for byte in value.bytes() {
        if is_plain(byte) {
            header.push(byte.into());
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            header.push('%');
            header.push(DIGITS[usize::from(byte >> 4)].into());
            header.push(DIGITS[usize::from(byte & 0xf)].into());
        }
    }
}

/// Whether a byte stands for itself. An `=` may, but there are parsers that cut the value there.
const fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'%' | b',' | b';' | b'=' | b'\\')
}

/// A header beyond the limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TooMuch {
    what: &'static str,
    found: usize,
    most: usize,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, found, most } = self;
        write!(f, "the baggage header has {found} {what}, more than {most}")
    }
}

/// The keys and encoded values of the members, in their order.
pub(crate) fn members(header: &str) -> Result<Vec<(&str, &str)>, TooMuch> {
    if header.len() > MOST_BYTES {
        return Err(TooMuch { what: "bytes", found: header.len(), most: MOST_BYTES });
    }
    let members: Vec<_> = header.split(',').filter_map(member).collect();
    if members.len() > MOST_MEMBERS {
        return Err(TooMuch { what: "members", found: members.len(), most: MOST_MEMBERS });
    }
    Ok(members)
}

fn member(text: &str) -> Option<(&str, &str)> {
    let member = text.split(';').next()?;
    let (key, value) = member.split_once('=')?;
    let space = [' ', '\t'];
    let (key, value) = (key.trim_matches(space), value.trim_matches(space));
    is_token(key).then_some((key, value))
}

/// Returns whether `text` is a `token` of RFC 9110, 5.6.2.
pub(crate) fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// Decodes `%XX`; what is not UTF-8 then becomes U+FFFD, as the specification demands.
pub(crate) fn decode(value: &str) -> Cow<'_, str> {
    if !value.contains('%') {
        return Cow::Borrowed(value);
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = match after {
            [high, low, after @ ..] if first == b'%' => {
                digit(*high).zip(digit(*low)).map(|(high, low)| (high << 4 | low, after))
            }
            _ => None,
        };
        let (byte, after) = decoded.unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| digit.try_into().ok())
}
