//! From when until when a certificate may be used (RFC 5280, section 4.1). Only as much of the encoding is read as lies
//! before the two times.

const SEQUENCE: u8 = 0x30;
/// The version, which certificates of version 1 leave out.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// When a certificate may be used, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Not before.
    pub begins: u64,
    /// Not after.
    pub ends: u64,
}

impl Validity {
    /// That of a certificate in DER; `None` where it is none.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (certificate, _) = expect(SEQUENCE, certificate)?;
        let (signed, _) = expect(SEQUENCE, certificate)?;
        let (tag, _, behind) = element(signed)?;
        // Serial number, algorithm, issuer.
        let fields = if tag == VERSION { behind } else { signed };
        let fields = (0..3).try_fold(fields, |fields, _| element(fields).map(|(_, _, behind)| behind))?;
        let (validity, _) = expect(SEQUENCE, fields)?;
        let (tag, begins, behind) = element(validity)?;
        let begins = time(tag, begins)?;
        let (tag, ends, _) = element(behind)?;
        Some(Self { begins, ends: time(tag, ends)? })
    }

    /// Why it may not be used now.
    #[must_use]
    pub const fn objection(&self, now_unix_seconds: u64) -> Option<&'static str> {
        if now_unix_seconds > self.ends {
            Some("has expired; get a new one")
        } else if now_unix_seconds < self.begins {
            Some("is not valid yet; look at this host's clock")
        } else {
            None
        }
    }
}

fn expect(wanted: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    element(der).filter(|(tag, ..)| *tag == wanted).map(|(_, content, behind)| (content, behind))
}

/// Tag and content of the first element, and what is behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(length)?;
    Some((*tag, content, behind))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`; times before 1970 count as 1970.
fn time(tag: u8, text: &[u8]) -> Option<u64> {
    let (year_digits, century) = match tag {
        UTC_TIME => (2, true),
        GENERALIZED_TIME => (4, false),
        _ => return None,
    };
    let digits = text.strip_suffix(b"Z")?;
    if digits.len() != year_digits + 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (year, rest) = digits.split_at(year_digits);
    let year = match number(year) {
        year if !century => year,
        year @ 50.. => 1900 + year,
        year => 2000 + year,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(u64::try_from(seconds).unwrap_or(0))
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years begin in March here, so that leap days end them.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_say_until_when() {
        let mut params = rcgen::CertificateParams::new(["test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 2, 28);
        params.not_after = rcgen::date_time_ymd(2060, 3, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let validity = Validity::of(certificate.der()).unwrap();
        // 2026 is written with two digits, 2060 with four.
        assert_eq!(validity, Validity { begins: 1_772_236_800, ends: 2_845_324_800 });
        assert_eq!(validity.objection(validity.begins), None);
        assert!(validity.objection(validity.begins - 1).is_some_and(|text| text.contains("not valid yet")));
        assert!(validity.objection(validity.ends + 1).is_some_and(|text| text.contains("expired")));
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(["test".to_owned()]).unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        for length in 0..der.len().min(200) {
            assert_eq!(Validity::of(&der[..length]), None, "{length}");
        }
        for wrong in [&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff][..], &[0x30, 0x80, 0, 0], &[0x30; 64]] {
            assert_eq!(Validity::of(wrong), None);
        }
        assert_eq!(time(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!(time(UTC_TIME, b"500101000000Z"), Some(0));
        assert_eq!(time(GENERALIZED_TIME, b"20261301000000Z"), None);
    }
}
