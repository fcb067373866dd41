//! The Date header's text (RFC 3261 20.17): RFC 1123, always GMT.

/// `Sun, 22 Nov 2026 14:46:24 GMT`.
pub type HttpDate = [u8; 29];

/// Writes a unix time as an RFC 1123 date. Years past 9999 are written modulo 10,000.
pub fn http_date(unix_s: u64) -> HttpDate {
    const DAYS: &[u8; 21] = b"ThuFriSatSunMonTueWed";
    const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";
    let (days, seconds) = (unix_s / 86_400, unix_s % 86_400);
    let (year, month, day) = civil(days);
    let mut date = *b"Thu, 01 Jan 1970 00:00:00 GMT";
    let mut put = |at: usize, text: &[u8]| {
        if let Some(place) = date.get_mut(at..at + text.len()) {
            place.copy_from_slice(text);
        }
    };
    let two = |n: u64| [b'0' + (n / 10 % 10) as u8, b'0' + (n % 10) as u8];
    put(0, three(DAYS, days % 7));
    put(5, &two(day));
    put(8, three(MONTHS, month - 1));
    put(12, &two(year / 100));
    put(14, &two(year));
    put(17, &two(seconds / 3600));
    put(20, &two(seconds / 60 % 60));
    put(23, &two(seconds % 60));
    date
}

fn three(names: &[u8], index: u64) -> &[u8] {
    let start = index as usize * 3;
    names.get(start..start + 3).unwrap_or(b"???")
}

/// Year, month and day of a day count since 1970 (the proleptic Gregorian calendar, counted from a 1 March).
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(&http_date(0), b"Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(&http_date(1_289_688_529), b"Sat, 13 Nov 2010 22:48:49 GMT");
        assert_eq!(&http_date(951_782_400), b"Tue, 29 Feb 2000 00:00:00 GMT");
        assert_eq!(&http_date(1_795_330_914), b"Sun, 22 Nov 2026 07:01:54 GMT");
        http_date(u64::MAX / 2);
    }
}
