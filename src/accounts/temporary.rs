//! Temporary passwords, which are e-mailed and valid for an hour.
//!
//! A repeated request does not replace a valid temporary password: the new e-mail contains the same password. A
//! temporary password is derived from the account, the hash of its permanent password, the day and the server's secret.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::tokens::TokenKeys;
use super::{Accounts, hex};
use crate::store::Credentials;

/// Letters and digits that are not easily confused; 5 bits each.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Symbols between the groups, 2 bits each. The legacy admin page accepts these symbols. Mail programs treat none of
/// them as markup or as part of an address.
const SYMBOLS: &[u8; 4] = b"!#$%";

/// Length of a password: four groups of four letters, joined by three symbols. One random byte is drawn per character.
const LEN: usize = 19;

/// Length of a group including the symbol after it.
const GROUP: usize = 5;

const PURPOSE: &str = "temporary password";

/// Generates a password of 19 characters with a letter, a digit and a symbol (SPEC 2). The password has 86 random bits.
/// A draw without a digit or without a letter is discarded. `draw` must return new random bytes at each call.
pub fn readable_password(mut draw: impl FnMut() -> [u8; LEN]) -> String {
    loop {
        let characters = draw().into_iter().enumerate().map(|(at, byte)| {
            let byte = usize::from(byte);
            // Both alphabet sizes divide 256, so the characters are uniformly distributed.
            if at % GROUP == GROUP - 1 { SYMBOLS[byte % SYMBOLS.len()] } else { LETTERS[byte % LETTERS.len()] }
        });
        let password: String = characters.map(char::from).collect();
        if password.contains(|c: char| c.is_ascii_digit()) && password.contains(|c: char| c.is_ascii_lowercase()) {
            return password;
        }
    }
}

/// Returns the hash of a temporary password. A plain digest suffices, because the password has 86 random bits. Its
/// computation is fast, so the response time does not reveal whether the account exists.
pub(super) fn temporary_hash(password: &str) -> String {
    hex(Sha256::digest(password.trim()))
}

impl Accounts {
    /// Returns the temporary password of an account. While an e-mailed password is valid, returns that password.
    /// Otherwise, returns the password of the current day. The computation takes the same time for an unknown account.
    pub(super) fn temporary_password(&self, known: Option<&Credentials>, now: DateTime<Utc>) -> String {
        let (id, beside) = known.map_or((0, ""), |known| (known.host.id.0, known.password_hash.as_str()));
        let today = now.timestamp().div_euclid(86_400);
        let of_day = |day: i64| derived(&self.keys, &format!("{id}\0{beside}\0{day}"));
        let (of_today, of_yesterday) = (of_day(today), of_day(today - 1));
        let mailed = known.and_then(|known| known.temporary.as_ref()).filter(|mailed| now < mailed.until);
        if mailed.is_some_and(|mailed| mailed.hash == temporary_hash(&of_yesterday)) { of_yesterday } else { of_today }
    }
}

fn derived(keys: &TokenKeys, text: &str) -> String {
    let mut round = 0_u32;
    readable_password(|| {
        round += 1;
        let bytes = keys.derive(PURPOSE, &format!("{text}\0{round}"));
        std::array::from_fn(|at| bytes[at])
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::Rng;

    #[test]
    fn generated_password_has_a_letter_a_digit_and_a_symbol_and_is_unique() {
        let rng = Rng::from_seed(7);
        let passwords: HashSet<String> = (0..10_000).map(|_| readable_password(|| rng.bytes())).collect();
        assert_eq!(passwords.len(), 10_000);
        let mut seen: HashSet<char> = HashSet::new();
        for password in &passwords {
            assert_eq!(password.len(), LEN);
            assert!(password.contains(|c: char| c.is_ascii_lowercase()), "{password}");
            assert!(password.contains(|c: char| c.is_ascii_digit()), "{password}");
            assert!(password.contains(|c| "!@#$%^&*".contains(c)), "{password}");
            assert!(password.starts_with(|c: char| c.is_ascii_alphanumeric()));
            assert!(password.ends_with(|c: char| c.is_ascii_alphanumeric()));
            seen.extend(password.chars());
        }
        assert_eq!(seen.len(), LETTERS.len() + SYMBOLS.len(), "every character occurs");
    }

    #[test]
    fn draw_without_a_digit_is_repeated() {
        let mut draws = [[0; LEN], [255; LEN], std::array::from_fn(|at| if at == 0 { 31 } else { 0 })].into_iter();
        assert_eq!(readable_password(|| draws.next().unwrap()), "9aaa!aaaa!aaaa!aaaa");
        assert_eq!(draws.next(), None);
    }

    #[test]
    fn all_characters_are_equally_likely() {
        let rng = Rng::from_seed(3);
        let mut counts = [0_u32; 256];
        for _ in 0..20_000 {
            readable_password(|| rng.bytes()).bytes().for_each(|byte| counts[usize::from(byte)] += 1);
        }
        let of = |alphabet: &[u8]| alphabet.iter().map(|byte| counts[usize::from(*byte)]).collect::<Vec<_>>();
        for counts in [of(&LETTERS[..24]), of(&LETTERS[24..]), of(SYMBOLS)] {
            let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(u64::from(*most) * 100 < u64::from(*least) * 112, "{counts:?}");
        }
    }
}
