//! Recognizes personal data at the beginning of a text: each function returns the length of its kind.

use std::net::Ipv6Addr;

fn run(text: &[u8], test: impl Fn(u8) -> bool) -> usize {
    text.iter().take_while(|&&byte| test(byte)).count()
}

pub(super) fn email(before: &[u8], text: &[u8]) -> Option<usize> {
    let local = |byte: u8| byte.is_ascii_alphanumeric() || b"._%+-".contains(&byte);
    if before.last().is_some_and(|&byte| local(byte)) {
        return None;
    }
    let name = run(text, local);
    text[..name].iter().find(|byte| byte.is_ascii_alphanumeric())?;
    let host = text.get(name..)?.strip_prefix(b"@")?;
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte) || !byte.is_ascii();
    let host = &host[..run(host, part)];
    // The last label of the host; a full stop behind it ends a sentence.
    let mut dots = memchr::memrchr_iter(b'.', host).take_while(|&dot| dot > 0);
    let end = dots.find_map(|dot| {
        let top = run(&host[dot + 1..], |byte| byte.is_ascii_alphabetic());
        let end = dot + 1 + top;
        (top > 1 && !host.get(end).is_some_and(u8::is_ascii_digit)).then_some(end)
    })?;
    Some(name + 1 + end)
}

pub(super) fn mac(text: &[u8]) -> Option<usize> {
    let separator = *text.get(2).filter(|byte| b":-".contains(byte))?;
    let pairs = text.get(..17)?.chunks(3);
    let pair = |pair: &[u8]| {
        pair[..2].iter().all(u8::is_ascii_hexdigit) && pair.get(2).is_none_or(|&b| b == separator)
    };
    (pairs.into_iter().all(pair) && text.get(17) != Some(&separator)).then_some(17)
}

pub(super) fn ipv4(before: &[u8], text: &[u8]) -> Option<usize> {
    let lower = before[before.len().saturating_sub(9)..].to_ascii_lowercase();
    let version = [&b"version "[..], b"release ", b"v. ", b"-", b"."];
    if version.iter().any(|word| lower.ends_with(word)) {
        return None;
    }
    let mut at = 0;
    for part in 0..4 {
        if part > 0 {
            at += usize::from(text.get(at) == Some(&b'.'));
        }
        let digits = run(text.get(at..)?, |byte| byte.is_ascii_digit());
        let number = std::str::from_utf8(&text[at..at + digits]).ok()?;
        let plain = number == "0" || !number.starts_with('0');
        (digits <= 3 && plain && number.parse::<u8>().is_ok()).then_some(())?;
        at += digits;
        (part == 3 || text.get(at) == Some(&b'.')).then_some(())?;
    }
    let more = text.get(at) == Some(&b'.') && text.get(at + 1).is_some_and(u8::is_ascii_digit);
    (!more).then_some(at)
}

pub(super) fn ipv6(text: &[u8]) -> Option<usize> {
    const LONGEST: usize = 39;
    let near = &text[..text.len().min(LONGEST + 1)];
    let length = run(near, |byte| byte.is_ascii_hexdigit() || byte == b':');
    let found = std::str::from_utf8(&text[..length]).ok()?;
    let digits =
        run(text, |byte| byte.is_ascii_hexdigit()).max(found.len() - found.matches(':').count());
    (found.matches(':').count() > 1 && digits > 3 && found.parse::<Ipv6Addr>().is_ok())
        .then_some(length)
}

pub(super) fn iban(text: &[u8]) -> Option<usize> {
    /// The lengths of accounts by country (the IBAN registry of SWIFT).
    const LENGTHS: [(usize, &str); 15] = [
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FO GL NL"),
        (19, "MK SI"),
        (20, "AT BA EE LT LU"),
        (21, "CH HR LI LV"),
        (22, "BG DE GB GE IE ME RS"),
        (23, "AE GI IL"),
        (24, "AD CZ ES MD RO SA SE SK"),
        (25, "PT"),
        (26, "IS TR"),
        (27, "FR GR IT MC SM"),
        (28, "AL CY HU PL"),
        (29, "BR UA"),
        (31, "MT"),
    ];
    let country = text.get(..2)?;
    let of = |names: &str| names.split(' ').any(|name| name.as_bytes() == country);
    let wanted = LENGTHS.iter().find(|(_, names)| of(names))?.0;
    let (mut account, mut at) = (Vec::with_capacity(wanted), 0);
    while account.len() < wanted {
        match *text.get(at)? {
            byte if byte.is_ascii_uppercase() || byte.is_ascii_digit() => account.push(byte),
            b' ' if at > 0 && text[at - 1] != b' ' => {}
            _ => return None,
        }
        at += 1;
    }
    account.rotate_left(4);
    let remainder = account.iter().fold(0_u32, |sum, &byte| match byte {
        b'0'..=b'9' => (sum * 10 + u32::from(byte - b'0')) % 97,
        _ => (sum * 100 + u32::from(byte - b'A') + 10) % 97,
    });
    (remainder == 1).then_some(at)
}

/// The digits that `text` begins with, and where they end; single separators between them are skipped.
fn digits(text: &[u8], separators: &[u8], most: usize) -> (Vec<u8>, usize) {
    let (mut digits, mut end, mut at) = (Vec::new(), 0, 0);
    while let Some(&byte) = text.get(at) {
        if byte.is_ascii_digit() {
            digits.push(byte - b'0');
            end = at + 1;
        } else if !separators.contains(&byte) || at > end + 1 || digits.len() > most {
            break;
        }
        at += 1;
    }
    (digits, end)
}

/// Whether what follows is the rest of a longer number, such as a sum of money or an account.
fn continues_number(before: &[u8]) -> bool {
    matches!(before, [.., digit, b' ' | b',' | b'.' | b'-' | b'/'] if digit.is_ascii_digit())
}

pub(super) fn card(before: &[u8], text: &[u8]) -> Option<usize> {
    if continues_number(before) {
        return None;
    }
    let first = run(text, |byte| byte.is_ascii_digit());
    (first == 4 || first > 12).then_some(())?;
    let (digits, end) = digits(text, b" -", 19);
    ((13..=19).contains(&digits.len()) && (2..=6).contains(&digits[0])).then_some(())?;
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(index, &digit)| {
            let digit = u32::from(digit) * if index % 2 == 1 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    sum.is_multiple_of(10).then_some(end)
}

pub(super) fn phone(before: &[u8], text: &[u8]) -> Option<usize> {
    if continues_number(before) {
        return None;
    }
    let (all, end) = match text {
        [b'+', rest @ ..] => {
            let (all, end) = digits(rest, b" -()./", 15);
            (all, end + 1)
        }
        [b'0', ..] => digits(text, b" -()/", 15),
        [b'(', b'0', ..] => {
            let (all, end) = digits(&text[1..], b" -()/", 15);
            (all, end + 1)
        }
        _ => return american(text),
    };
    let least = if text[0] == b'+' { 8 } else { 9 };
    // A date that begins with a zero has eight digits.
    (least..=15).contains(&all.len()).then_some(end)
}

/// `(555) 123-4567` or `555-123-4567`, also with the country's `1`.
fn american(text: &[u8]) -> Option<usize> {
    let country = usize::from(matches!(text, [b'1', b' ' | b'-' | b'.', ..])) * 2;
    let text = &text[country..];
    let patterns: [&[u8]; 4] =
        [b"(ddd) ddd-dddd", b"(ddd)ddd-dddd", b"ddd-ddd-dddd", b"ddd.ddd.dddd"];
    let fits = |pattern: &&&[u8]| {
        let mut pairs = text.iter().zip(pattern.iter());
        text.len() >= pattern.len()
            && pairs.all(
                |(&byte, &want)| if want == b'd' { byte.is_ascii_digit() } else { byte == want },
            )
    };
    patterns.iter().find(fits).map(|pattern| country + pattern.len())
}

pub(super) fn secret(text: &[u8]) -> Option<usize> {
    /// What keys of services begin with, and how many characters follow at least.
    const PREFIXES: [(&[u8], usize); 24] = [
        (b"sk-", 20),
        (b"sk_live_", 16),
        (b"sk_test_", 16),
        (b"ghp_", 30),
        (b"gho_", 30),
        (b"ghs_", 30),
        (b"ghu_", 30),
        (b"ghr_", 30),
        (b"gsk_", 30),
        (b"rk_live_", 16),
        (b"npm_", 30),
        (b"pypi-", 30),
        (b"hvs.", 20),
        (b"dop_v1_", 30),
        (b"tskey-", 20),
        (b"ASIA", 16),
        (b"github_pat_", 30),
        (b"glpat-", 16),
        (b"xoxb-", 20),
        (b"xoxp-", 20),
        (b"AKIA", 16),
        (b"AIza", 30),
        (b"hf_", 30),
        (b"eyJ", 30),
    ];
    /// The longest token. Texts are searched in linear time.
    const LONGEST: usize = 8192;
    if text.starts_with(b"-----BEGIN ") {
        return private_key(text);
    }
    let (prefix, least) = PREFIXES.iter().find(|(prefix, _)| text.starts_with(prefix))?;
    let dots = *prefix == b"eyJ";
    let near = &text[..text.len().min(LONGEST)];
    let length = run(near, |byte| {
        byte.is_ascii_alphanumeric() || b"_-".contains(&byte) || dots && byte == b'.'
    });
    let varied = text[..length].iter().any(u8::is_ascii_digit);
    let token = !dots || text[..length].iter().filter(|&&byte| byte == b'.').count() == 2;
    (length >= prefix.len() + least && varied && token).then_some(length)
}

/// A private key in PEM: to its last line, or as far as it goes where it was cut off. Its line breaks may be escaped.
fn private_key(text: &[u8]) -> Option<usize> {
    let near = &text[..text.len().min(64)];
    let title = run(near, |byte| byte.is_ascii_uppercase() || b"- ".contains(&byte));
    memchr::memmem::find(&text[..title], b"PRIVATE KEY")?;
    // Base64, the headers of older keys, white space.
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=:,-\\ \r\n\t".contains(&byte);
    let body = &text[title..title + run(&text[title..], inside)];
    let Some(end) = memchr::memmem::find(body, b"-----END ") else {
        return Some(title + run(body, |byte| byte != b' ' && inside(byte)));
    };
    let last = &body[end..];
    let last = &last[..run(last, |byte| byte.is_ascii_uppercase() || b"- ".contains(&byte))];
    Some(title + end + last.trim_ascii_end().len())
}
