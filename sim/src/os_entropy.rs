//! The operating system's randomness, taken away.
//!
//! Libraries seed their own generators and hash maps from it: election timeouts and orders of iteration would differ
//! from run to run. So the C function they all end in is replaced by a seeded one, for this process.

use std::sync::{LazyLock, Mutex, PoisonError};

use ottla_rt::Entropy;
use ottla_rt::memory::SeededEntropy;

static SOURCE: LazyLock<Mutex<SeededEntropy>> = LazyLock::new(|| Mutex::new(SeededEntropy::new(0)));

/// From here on the bytes depend on this seed alone.
pub fn seed(seed: u64) {
    *SOURCE.lock().unwrap_or_else(PoisonError::into_inner) = SeededEntropy::new(seed);
}

/// What the standard library and the `getrandom` crate call; `.cargo/config.toml` makes the latter link to it.
///
/// # Safety
/// As the C function's: `buffer` has room for `len` bytes.
#[allow(unsafe_code, reason = "a C function is replaced, which is the point")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    if len == 0 {
        return 0;
    }
    // SAFETY: the caller gives a buffer of this length, which nobody else has.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, len) };
    // It may not have been initialised.
    bytes.fill(0);
    SOURCE.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    len as isize
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn hash_maps_are_seeded() {
        let key = || {
            super::seed(7);
            // A thread draws its keys once, so each look needs a new one.
            std::thread::spawn(|| RandomState::new().hash_one(1)).join().unwrap()
        };
        assert_eq!(key(), key());
    }
}
