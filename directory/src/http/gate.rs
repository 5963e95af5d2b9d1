//! Who is an operator: whoever presents the admin token, and whoever holds a session that was given for it. A plain value;
//! `now` and chance are arguments.
//!
//! Guesses are limited per address, and an address that has guessed too often is not believed a right one either. The same
//! wrong token again is no further guess: whoever shows it learns nothing, and a program with a token of before does not
//! keep its neighbours out. Behind a reverse proxy all clients share one address.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode, header};
use sha2::{Digest as _, Sha256};

use crate::config::AdminToken;
use crate::limits::{AddressRates, Rate, address_unit};

/// A session lasts so long, whether it is used or not.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// Sessions at once; one more ends the oldest.
const SESSIONS_MAX: usize = 64;
/// Wrong tokens a minute from one address.
const FAILURES_PER_MINUTE: u32 = 5;

/// A wrong token counts again after this, and so many are known at once.
const WRONG_KNOWN: Duration = Duration::from_secs(60);
const WRONG_MAX: usize = 1024;

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// No token is configured, so nobody is an operator.
    Unset,
    /// Nothing was presented, or a session that has ended.
    Missing,
    /// The token is another.
    Wrong,
    /// It is one that was wrong within the last minute.
    WrongAgain,
    /// Too many wrong tokens came from the address.
    TooMany,
}

/// What a client presents.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presented<'a> {
    /// A session.
    pub session: Option<&'a str>,
    /// The token itself.
    pub token: Option<&'a str>,
}

impl<'a> Presented<'a> {
    /// The token of an `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(headers: &'a HeaderMap) -> Self {
        let authorization = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        Self { session: None, token: authorization.and_then(|value| value.strip_prefix("Bearer ")) }
    }
}

impl Denied {
    /// The status that tells a program.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Unset => StatusCode::FORBIDDEN,
            Self::Missing | Self::Wrong | Self::WrongAgain => StatusCode::UNAUTHORIZED,
        }
    }
}

/// Notes a wrong token in the log; the same again, and further ones of an address that has guessed too often, are not worth a
/// line each.
pub fn note(ip: IpAddr, denied: Option<Denied>) {
    if denied == Some(Denied::Wrong) {
        tracing::warn!(address = %ip, "an operator was refused: wrong token");
    }
}

/// The token, and the sessions given for it.
#[derive(Debug)]
pub struct Gate {
    token: Option<AdminToken>,
    /// When each ends. Only digests are kept: looking one up tells nothing of the others by its duration.
    sessions: HashMap<[u8; 32], Duration>,
    failures: AddressRates,
    /// Until when a wrong token of an address is not counted again. Only digests are kept, too.
    wrong: HashMap<[u8; 32], Duration>,
}

impl Gate {
    /// A gate that opens to `token`; to nobody without one.
    #[must_use]
    pub fn new(token: Option<AdminToken>) -> Self {
        let rate = Rate::new(FAILURES_PER_MINUTE, Duration::from_secs(60));
        Self { token, sessions: HashMap::new(), failures: AddressRates::new(rate), wrong: HashMap::new() }
    }

    /// Whether there is a token at all.
    #[must_use]
    pub const fn is_set(&self) -> bool {
        self.token.is_some()
    }

    /// Gives a session, made of `chance`, for the token.
    ///
    /// # Errors
    /// Why not.
    pub fn log_in(&mut self, now: Duration, ip: IpAddr, token: &str, chance: [u8; 32]) -> Result<String, Denied> {
        self.check(now, ip, token)?;
        self.sessions.retain(|_, ends| *ends > now);
        if self.sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = self.sessions.iter().min_by_key(|(_, ends)| **ends).map(|(digest, _)| *digest)
        {
            self.sessions.remove(&oldest);
        }
        let session = chance.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        });
        self.sessions.insert(Sha256::digest(&session).into(), now + SESSION_LIFETIME);
        Ok(session)
    }

    /// Lets an operator in.
    ///
    /// # Errors
    /// Why not.
    pub fn admit(&mut self, now: Duration, ip: IpAddr, presented: Presented<'_>) -> Result<(), Denied> {
        if !self.is_set() {
            return Err(Denied::Unset);
        }
        if let Some(token) = presented.token {
            return self.check(now, ip, token);
        }
        let digest: [u8; 32] = Sha256::digest(presented.session.ok_or(Denied::Missing)?).into();
        match self.sessions.get(&digest) {
            Some(ends) if *ends > now => Ok(()),
            _ => Err(Denied::Missing),
        }
    }

    /// Ends a session.
    pub fn log_out(&mut self, session: &str) {
        self.sessions.remove::<[u8; 32]>(&Sha256::digest(session).into());
    }

    fn check(&mut self, now: Duration, ip: IpAddr, presented: &str) -> Result<(), Denied> {
        let token = self.token.as_ref().ok_or(Denied::Unset)?;
        if !self.failures.has_room(now, ip) {
            return Err(Denied::TooMany);
        }
        let presented = presented.trim();
        if token.matches(presented) {
            return Ok(());
        }
        let address = address_unit(ip).to_string();
        let guess: [u8; 32] =
            Sha256::new().chain_update(address).chain_update([0]).chain_update(presented).finalize().into();
        if self.wrong.get(&guess).is_some_and(|until| *until > now) {
            return Err(Denied::WrongAgain);
        }
        if self.wrong.len() >= WRONG_MAX {
            self.wrong.retain(|_, until| *until > now);
        }
        if self.wrong.len() < WRONG_MAX {
            self.wrong.insert(guess, now + WRONG_KNOWN);
        }
        self.failures.take(now, ip);
        Err(Denied::Wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn gate() -> Gate {
        Gate::new(AdminToken::new("secret"))
    }

    fn with(session: &str) -> Presented<'_> {
        Presented { session: Some(session), token: None }
    }

    #[test]
    fn a_session_lasts_until_it_is_ended_or_old() {
        let mut gate = gate();
        let session = gate.log_in(NOW, ip(1), "secret\n", [7; 32]).unwrap();
        assert_eq!(session.len(), 64);
        assert_eq!(gate.admit(NOW, ip(2), with(&session)), Ok(()));
        assert_eq!(gate.admit(NOW, ip(2), with(&session[1..])), Err(Denied::Missing));
        let last = NOW + SESSION_LIFETIME - Duration::from_secs(1);
        assert_eq!(gate.admit(last, ip(1), with(&session)), Ok(()));
        assert_eq!(gate.admit(NOW + SESSION_LIFETIME, ip(1), with(&session)), Err(Denied::Missing));
        gate.log_out(&session);
        assert_eq!(gate.admit(NOW, ip(1), with(&session)), Err(Denied::Missing));
    }

    #[test]
    fn guessing_is_limited_per_address_and_the_right_token_does_not_end_it() {
        let mut gate = gate();
        for guess in 0..FAILURES_PER_MINUTE {
            assert_eq!(gate.log_in(NOW, ip(1), &format!("guess {guess}"), [0; 32]), Err(Denied::Wrong));
        }
        assert_eq!(gate.log_in(NOW, ip(1), "guess 0", [0; 32]), Err(Denied::TooMany));
        assert_eq!(gate.log_in(NOW, ip(1), "secret", [0; 32]), Err(Denied::TooMany));
        let bearer = Presented { session: None, token: Some("secret") };
        assert_eq!(gate.admit(NOW, ip(1), bearer), Err(Denied::TooMany));
        assert_eq!(gate.admit(NOW, ip(2), bearer), Ok(()));
        assert_eq!(gate.admit(NOW + Duration::from_secs(60), ip(1), bearer), Ok(()));
    }

    #[test]
    fn a_token_of_before_keeps_nobody_out_and_leaves_no_more_guesses() {
        fn bearer(token: &str) -> Presented<'_> {
            Presented { session: None, token: Some(token) }
        }
        let mut gate = gate();
        let mut wrong = 0;
        for second in 0..600 {
            let now = NOW + Duration::from_secs(second);
            for _ in 0..10 {
                let denied = gate.admit(now, ip(1), bearer("of before")).unwrap_err();
                assert!(matches!(denied, Denied::Wrong | Denied::WrongAgain), "{denied:?}");
                wrong += u64::from(denied == Denied::Wrong);
            }
            assert_eq!(gate.admit(now, ip(1), bearer("secret")), Ok(()));
        }
        assert_eq!(wrong, 10, "it is one guess a minute, and one line in the log");
        // Of another address it is another guess.
        assert_eq!(gate.admit(NOW, ip(2), bearer("of before")), Err(Denied::Wrong));
        let now = NOW + Duration::from_secs(600);
        let mut guesses = (0..).map(|guess: u32| format!("guess {guess}"));
        let refused = |gate: &mut Gate, guess: String| gate.admit(now, ip(1), bearer(&guess)).unwrap_err();
        assert_eq!(gate.admit(now, ip(1), bearer("of before")), Err(Denied::Wrong));
        for _ in 1..FAILURES_PER_MINUTE {
            assert_eq!(refused(&mut gate, guesses.next().unwrap()), Denied::Wrong);
        }
        assert_eq!(refused(&mut gate, guesses.next().unwrap()), Denied::TooMany, "the same rate as ever for others");
    }

    #[test]
    fn wrong_tokens_known_are_bounded() {
        let mut gate = gate();
        let from = |index: usize| IpAddr::from([10, 0, (index >> 8) as u8, index as u8]);
        for index in 0..2 * WRONG_MAX {
            assert_eq!(gate.log_in(NOW, from(index), "wrong", [0; 32]), Err(Denied::Wrong));
        }
        assert_eq!(gate.wrong.len(), WRONG_MAX);
        let later = NOW + WRONG_KNOWN;
        assert_eq!(gate.log_in(later, ip(1), "wrong", [0; 32]), Err(Denied::Wrong));
        assert_eq!(gate.wrong.len(), 1);
    }

    #[test]
    fn the_right_token_is_never_limited() {
        let mut gate = gate();
        let bearer = Presented { session: None, token: Some("secret") };
        assert!((0..1000).all(|_| gate.admit(NOW, ip(1), bearer) == Ok(())));
    }

    #[test]
    fn without_a_token_nobody_is_let_in() {
        let mut gate = Gate::new(None);
        assert_eq!(gate.log_in(NOW, ip(1), "", [0; 32]), Err(Denied::Unset));
        assert_eq!(gate.admit(NOW, ip(1), Presented::default()), Err(Denied::Unset));
    }

    #[test]
    fn sessions_are_bounded_and_the_oldest_goes_first() {
        let mut gate = gate();
        let sessions: Vec<_> = (0..=SESSIONS_MAX as u8)
            .map(|index| gate.log_in(NOW + Duration::from_secs(index.into()), ip(1), "secret", [index; 32]).unwrap())
            .collect();
        assert_eq!(gate.sessions.len(), SESSIONS_MAX);
        let later = NOW + Duration::from_secs(100);
        assert_eq!(gate.admit(later, ip(1), with(&sessions[0])), Err(Denied::Missing));
        assert_eq!(gate.admit(later, ip(1), with(&sessions[1])), Ok(()));
    }
}
