//! Random bytes from the kernel's generator, for states, tickets and nonces.

use crate::engine::Entropy;
use crate::lifecycle::Random;
use aws_lc_rs::rand;

/// The kernel's generator.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelEntropy;

impl Entropy for KernelEntropy {
    fn random(&self) -> Random {
        let mut bytes = [0; 24];
        // It fails only where the kernel has no generator at all; guessable states must not be handed out then.
        while rand::fill(&mut bytes).is_err() {
            std::thread::yield_now();
        }
        bytes
    }
}
