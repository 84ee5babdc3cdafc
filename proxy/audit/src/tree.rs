//! The Merkle tree of RFC 6962: a root that changes with every leaf, and short proofs that a leaf is in it.

use aws_lc_rs::digest::{Context, SHA256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// The root of a tree that grows, in memory of its height. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    /// The roots of the complete subtrees, the largest first.
    roots: Vec<Hash>,
    size: u64,
}

/// The hash of a leaf.
pub fn leaf_hash(data: &[u8]) -> Hash {
    hash(&[&[0], data])
}

/// The SHA-256 of data.
pub(crate) fn sha256(data: &[u8]) -> Hash {
    hash(&[data])
}

fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref().try_into().expect("a SHA-256 has 32 bytes")
}

impl Frontier {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut root = leaf;
        // Each bit of the size that is set is a complete subtree; the lowest ones are joined with the new leaf.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.roots.pop() {
                root = node(&left, &root);
            }
        }
        self.roots.push(root);
        self.size += 1;
    }

    /// The root; that of no leaves is the hash of nothing.
    pub fn root(&self) -> Hash {
        let mut roots = self.roots.iter().rev();
        let Some(first) = roots.next() else {
            return sha256(&[]);
        };
        roots.fold(*first, |right, left| node(left, &right))
    }
}

/// The path from a leaf to the root (RFC 6962, section 2.1.1); `None` if there is no such leaf.
pub fn inclusion_path(leaves: &[Hash], index: u64) -> Option<Vec<Hash>> {
    let index = usize::try_from(index)
        .ok()
        .filter(|index| *index < leaves.len())?;
    let mut path = Vec::new();
    collect(leaves, index, &mut path);
    Some(path)
}

fn collect(leaves: &[Hash], index: usize, path: &mut Vec<Hash>) {
    if leaves.len() < 2 {
        return;
    }
    let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
    if index < left.len() {
        collect(left, index, path);
        path.push(root_of(right));
    } else {
        collect(right, index - left.len(), path);
        path.push(root_of(left));
    }
}

fn root_of(leaves: &[Hash]) -> Hash {
    let mut frontier = Frontier::default();
    for leaf in leaves {
        frontier.push(*leaf);
    }
    frontier.root()
}

/// The root that a leaf and its path lead to, in a tree of this size; `None` if the path has not the right length.
pub fn root_from_path(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    // RFC 9162, section 2.1.3.2.
    let (mut number, mut last) = (index, size - 1);
    let mut root = leaf;
    for sibling in path {
        if last == 0 {
            return None;
        }
        if number & 1 == 1 || number == last {
            root = node(sibling, &root);
            while number & 1 == 0 && number != 0 {
                number >>= 1;
                last >>= 1;
            }
        } else {
            root = node(&root, sibling);
        }
        number >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(root)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hex;

    /// The vectors of Certificate Transparency's own tests.
    #[test]
    fn roots_are_those_of_certificate_transparency() {
        let inputs: [&[u8]; 8] = [
            &[],
            &[0],
            &[0x10],
            &[0x20, 0x21],
            &[0x30, 0x31],
            &[0x40, 0x41, 0x42, 0x43],
            &[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57],
            &[
                0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x6b, 0x6c, 0x6d,
                0x6e, 0x6f,
            ],
        ];
        let expected = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::default();
        assert_eq!(
            hex(&frontier.root()),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        for (input, expected) in inputs.iter().zip(expected) {
            frontier.push(leaf_hash(input));
            assert_eq!(hex(&frontier.root()), expected);
        }
    }

    proptest! {
        #[test]
        fn every_leaf_is_proven_and_no_other_is(size in 1_u64..70, index in 0_u64..70, wrong in 0_u64..70) {
            let leaves: Vec<_> = (0..size).map(|number| leaf_hash(&number.to_be_bytes())).collect();
            let root = root_of(&leaves);
            let Some(path) = inclusion_path(&leaves, index) else {
                prop_assert!(index >= size);
                return Ok(());
            };
            let leaf = leaves[usize::try_from(index).unwrap()];
            prop_assert_eq!(root_from_path(leaf, index, size, &path), Some(root));
            if wrong != index {
                prop_assert_ne!(root_from_path(leaf, wrong, size, &path), Some(root));
            }
            prop_assert_ne!(root_from_path(leaf_hash(b"x"), index, size, &path), Some(root));
            if let Some((_, shorter)) = path.split_last() {
                prop_assert_ne!(root_from_path(leaf, index, size, shorter), Some(root));
            }
        }
    }
}
