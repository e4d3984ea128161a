//! Who a message speaks for: the enrollment ID and its parts.
//!
//! Apple's messages carry UDID or EnrollmentID for the device, and more keys on a user channel. The
//! first matching line of [`Ids::of`] decides, as every server of this protocol family does it.
//! IDs are compared byte for byte: their case varies by platform.
//!
//! **Invariant:** no device's ID contains a colon, so no user's ID can collide with a device's.

use plist::Dictionary;

use crate::error::{Error, Result};
use crate::plist;

/// The UserID that all users of a Shared iPad share; they are told apart by their short name.
const SHARED_IPAD_USER: &str = "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF";

/// Bytes of a user's ID or name.
const LONGEST_USER: usize = 255;

/// The five kinds of enrollment, by the names that NanoMDM gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Device,
    User,
    SharedIpad,
    UserEnrollmentDevice,
    UserEnrollment,
}

impl Kind {
    /// As the API and the database write it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Device => "Device",
            Self::User => "User",
            Self::SharedIpad => "Shared iPad",
            Self::UserEnrollmentDevice => "User Enrollment (Device)",
            Self::UserEnrollment => "User Enrollment",
        }
    }

    /// Whether this is the device channel.
    pub fn is_device(self) -> bool {
        matches!(self, Self::Device | Self::UserEnrollmentDevice)
    }
}

/// Who a message speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The enrollment: `UDID`, `UDID:UserID`, `UDID:UserShortName`, `EnrollmentID` …
    pub enrollment_id: String,
    /// The device channel that it belongs to: itself, or the part before the colon.
    pub device_id: String,
    pub kind: Kind,
    pub udid: Option<String>,
    pub user_id: Option<String>,
    pub user_short_name: Option<String>,
    pub user_long_name: Option<String>,
}

impl Ids {
    /// Reads the identity keys of a check-in message or a report.
    ///
    /// # Errors
    /// `Invalid` when there is neither UDID nor EnrollmentID, or one is not fit to be an ID.
    pub fn of(message: &Dictionary) -> Result<Self> {
        let udid = device(message, "UDID")?;
        let user_short_name = name(message, "UserShortName")?;
        let user_long_name = name(message, "UserLongName")?;
        if let Some(udid) = udid {
            let user_id = user(message, "UserID")?;
            let (kind, enrollment_id) = match user_id.as_deref() {
                None => (Kind::Device, udid.clone()),
                Some(SHARED_IPAD_USER) => {
                    let name = user(message, "UserShortName")?.ok_or_else(|| {
                        Error::invalid_at("/UserShortName", "a user of a Shared iPad has no UserShortName")
                    })?;
                    (Kind::SharedIpad, format!("{udid}:{name}"))
                }
                Some(user) => (Kind::User, format!("{udid}:{user}")),
            };
            return Ok(Self {
                enrollment_id,
                device_id: udid.clone(),
                kind,
                udid: Some(udid),
                user_id,
                user_short_name,
                user_long_name,
            });
        }
        let device_id = device(message, "EnrollmentID")?.ok_or_else(|| {
            Error::invalid("the message names no device: it has neither UDID nor EnrollmentID")
        })?;
        let user_id = user(message, "EnrollmentUserID")?;
        let (kind, enrollment_id) = match &user_id {
            None => (Kind::UserEnrollmentDevice, device_id.clone()),
            Some(user) => (Kind::UserEnrollment, format!("{device_id}:{user}")),
        };
        Ok(Self { enrollment_id, device_id, kind, udid: None, user_id, user_short_name, user_long_name })
    }
}

/// A device's ID: letters, digits, dot, dash and underscore. Anything else never came from a device.
fn device(message: &Dictionary, key: &'static str) -> Result<Option<String>> {
    let Some(id) = plist::string(message, key)? else { return Ok(None) };
    let fit = (1..=128).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    // `.` and `..` would be swallowed by whoever builds a path of them.
    if !fit || id.bytes().all(|byte| byte == b'.') {
        return Err(Error::invalid_at(
            format!("/{key}"),
            format!("{key} is not a device's: it has 1 to 128 letters, digits, dots, dashes and underscores"),
        ));
    }
    Ok(Some(id.to_owned()))
}

/// What becomes part of a user's ID: any text without control characters and direction overrides.
/// Joiners (U+200C, U+200D) belong to the spelling of Persian and Indic names.
fn user(message: &Dictionary, key: &'static str) -> Result<Option<String>> {
    let Some(id) = plist::string(message, key)? else { return Ok(None) };
    let unfit = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !(1..=LONGEST_USER).contains(&id.len()) || id.chars().any(unfit) {
        return Err(Error::invalid_at(
            format!("/{key}"),
            format!("{key} has 1 to {LONGEST_USER} bytes and no control characters"),
        ));
    }
    Ok(Some(id.to_owned()))
}

/// What a person is called. It only stands in lists, so it is kept as it was said, up to a length;
/// nobody's device is refused for the name of its user.
fn name(message: &Dictionary, key: &'static str) -> Result<Option<String>> {
    let name = plist::string(message, key)?.filter(|name| !name.is_empty());
    Ok(name.map(|name| name[..name.floor_char_boundary(LONGEST_USER)].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(keys: &[(&str, &str)]) -> Dictionary {
        keys.iter().map(|(key, value)| ((*key).to_owned(), ::plist::Value::from(*value))).collect()
    }

    fn ids(keys: &[(&str, &str)]) -> Ids {
        Ids::of(&message(keys)).unwrap()
    }

    #[test]
    fn the_first_matching_line_decides() {
        assert_eq!(ids(&[("UDID", "U")]).kind, Kind::Device);
        let user = ids(&[("UDID", "U"), ("UserID", "A"), ("UserShortName", "jo")]);
        assert_eq!(
            (user.kind, user.enrollment_id.as_str(), user.device_id.as_str()),
            (Kind::User, "U:A", "U")
        );
        let shared = ids(&[("UDID", "U"), ("UserID", SHARED_IPAD_USER), ("UserShortName", "jo@example.org")]);
        assert_eq!((shared.kind, shared.enrollment_id.as_str()), (Kind::SharedIpad, "U:jo@example.org"));
        let both = ids(&[("UDID", "U"), ("EnrollmentID", "E")]);
        assert_eq!((both.kind, both.enrollment_id.as_str()), (Kind::Device, "U"));
        assert_eq!(ids(&[("EnrollmentID", "E")]).kind, Kind::UserEnrollmentDevice);
        let enrolled = ids(&[("EnrollmentID", "E"), ("EnrollmentUserID", "x")]);
        assert_eq!((enrolled.kind, enrolled.enrollment_id.as_str()), (Kind::UserEnrollment, "E:x"));
    }

    #[test]
    fn nobody_is_refused_for_a_name_that_is_no_id() {
        let long = "é".repeat(200);
        let user = ids(&[("UDID", "U"), ("UserID", "A"), ("UserShortName", ""), ("UserLongName", &long)]);
        assert_eq!((user.user_short_name, user.user_long_name.unwrap().len()), (None, 254));
        for name in ["می\u{200c}خواهم", "क्\u{200d}ष", "👩\u{200d}🚀", "\u{202e}x", "a\nb"] {
            let user = ids(&[("UDID", "U"), ("UserID", "A"), ("UserLongName", name)]);
            assert_eq!(user.user_long_name.as_deref(), Some(name));
        }
        let joined = "می\u{200c}خواهم";
        let shared = ids(&[("UDID", "U"), ("UserID", SHARED_IPAD_USER), ("UserShortName", joined)]);
        assert_eq!(shared.enrollment_id, format!("U:{joined}"));
        let late = format!("{}\n", "x".repeat(220));
        for id in ["", "a\nb", "\u{200b}", "\u{202e}", &late, &"x".repeat(256)] {
            for (key, other) in [("UserID", "UserShortName"), ("UserShortName", "UserID")] {
                let keys = [("UDID", "U"), (key, id), (other, SHARED_IPAD_USER)];
                assert!(Ids::of(&message(&keys)).is_err(), "{key} {id:?}");
            }
            assert!(Ids::of(&message(&[("EnrollmentID", "E"), ("EnrollmentUserID", id)])).is_err(), "{id:?}");
        }
    }

    #[test]
    fn what_no_device_is_called_is_refused() {
        for udid in ["", "a:b", "../x", "..", "a b", "'; DROP TABLE enrollments", "\0", "ü", "\u{202e}x"] {
            assert!(Ids::of(&message(&[("UDID", udid)])).is_err(), "{udid:?}");
        }
        assert!(Ids::of(&message(&[("UDID", &"x".repeat(1 << 20))])).is_err());
        assert!(Ids::of(&message(&[])).is_err());
        assert!(Ids::of(&message(&[("UDID", "U"), ("UserID", "a\nb")])).is_err());
        assert!(Ids::of(&message(&[("UDID", "U"), ("UserID", SHARED_IPAD_USER)])).is_err());
    }
}
