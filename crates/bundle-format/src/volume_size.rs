use std::fmt;
use std::str::FromStr;

/// The size of the volumes of a bundle in bytes: of all but the last, which may be smaller.
///
/// Written as a number of bytes, with a unit (`KB`, `MB`, `GB`, `TB`: powers of 1000; `KiB`, `MiB`,
/// `GiB`, `TiB`: powers of 1024), or as the name of a medium: `fat32` (4 GiB - 1, the largest file
/// of FAT32 and of ISO 9660), `dvd` (4,680,000,000, a single layer and room for its file system),
/// `bd` (25,000,000,000, likewise).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VolumeSize(u64);

/// Why a text or a number is not a size for volumes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VolumeSizeError(String);

/// The names of media, and the largest file that fits onto each.
const MEDIA: [(&str, u64); 3] = [
    ("fat32", (4 << 30) - 1),
    ("dvd", 4_680_000_000),
    ("bd", 25_000_000_000),
];

const UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

impl VolumeSize {
    /// The smallest size: 64 KiB.
    pub const MIN_BYTES: u64 = 64 << 10;
    /// The largest number of volumes: their names have three digits.
    pub const MAX_VOLUMES: usize = 999;

    /// Creates a size from a number of bytes.
    ///
    /// # Errors
    ///
    /// When `bytes` is less than [`MIN_BYTES`](Self::MIN_BYTES).
    pub fn new(bytes: u64) -> Result<Self, VolumeSizeError> {
        if bytes >= Self::MIN_BYTES {
            Ok(Self(bytes))
        } else {
            Err(VolumeSizeError(format!(
                "a volume of {bytes} bytes is too small; the smallest has 64 KiB ({} bytes)",
                Self::MIN_BYTES
            )))
        }
    }

    /// Creates a size below the minimum, so that a test reaches every boundary of a small bundle.
    #[cfg(test)]
    pub(crate) fn tiny(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the size in bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Returns the number of volumes that a bundle of `size` bytes takes.
    ///
    /// # Errors
    ///
    /// When the number exceeds [`MAX_VOLUMES`](Self::MAX_VOLUMES).
    pub fn volumes_of(self, size: u64) -> Result<usize, VolumeSizeError> {
        let volumes = size.div_ceil(self.0).max(1);
        match usize::try_from(volumes) {
            Ok(volumes) if volumes <= Self::MAX_VOLUMES => Ok(volumes),
            _ => Err(VolumeSizeError(format!(
                "a bundle of {size} bytes takes {volumes} volumes of {} bytes, and the most is {}; volumes of {} \
                 bytes are large enough",
                self.0,
                Self::MAX_VOLUMES,
                size.div_ceil(Self::MAX_VOLUMES as u64)
            ))),
        }
    }
}

impl FromStr for VolumeSize {
    type Err = VolumeSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.trim().to_ascii_lowercase();
        if let Some((_, bytes)) = MEDIA.iter().find(|(name, _)| *name == lower) {
            return Ok(Self(*bytes));
        }
        let digits = lower.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = lower.split_at(digits);
        let unit = UNITS.iter().find(|(name, _)| *name == unit.trim_start());
        let bytes = match (number.parse::<u64>(), unit) {
            (Ok(number), Some((_, unit))) => number.checked_mul(*unit),
            _ => {
                return Err(VolumeSizeError(format!(
                    "{text:?} is not a size; write a whole number of bytes, one with a unit (650MB, 4GiB), or fat32, \
                     dvd or bd"
                )));
            }
        };
        let too_large = || VolumeSizeError(format!("{text:?} is more than any file can have"));
        Self::new(bytes.ok_or_else(too_large)?)
    }
}

impl fmt::Display for VolumeSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_have_a_unit_or_name_a_medium() {
        for (text, bytes) in [
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("66 kb", 66_000),
            ("700MB", 700_000_000),
            ("4GiB", 4_294_967_296),
            ("4gib", 4_294_967_296),
            ("1TB", 1_000_000_000_000),
            ("fat32", 4_294_967_295),
            ("FAT32", 4_294_967_295),
            ("dvd", 4_680_000_000),
            ("bd", 25_000_000_000),
        ] {
            assert_eq!(text.parse().map(VolumeSize::bytes), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_the_reason() {
        for (text, part) in [
            ("", "is not a size"),
            ("GiB", "is not a size"),
            ("-1", "is not a size"),
            ("4.7GB", "a whole number"),
            ("4G", "650MB, 4GiB"),
            ("4 G iB", "is not a size"),
            ("0x10000", "is not a size"),
            ("0", "the smallest has 64 KiB"),
            ("65535", "65535 bytes is too small"),
            ("18446744073709551616", "is not a size"),
            ("99999999TiB", "more than any file"),
        ] {
            let error = text.parse::<VolumeSize>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn volumes_are_counted_and_no_more_than_three_digits_can_name() {
        let size = VolumeSize::new(65_536).unwrap();
        for (bytes, volumes) in [
            (0, 1),
            (1, 1),
            (65_536, 1),
            (65_537, 2),
            (65_536 * 999, 999),
        ] {
            assert_eq!(size.volumes_of(bytes), Ok(volumes));
        }
        let error = size.volumes_of(65_536 * 999 + 1).unwrap_err().to_string();
        assert!(error.contains("takes 1000 volumes"), "{error}");
        assert!(
            error.ends_with("volumes of 65537 bytes are large enough"),
            "{error}"
        );
        assert!(size.volumes_of(u64::MAX).is_err());
    }
}
