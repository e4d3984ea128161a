//! Keys, digests and structures that no device has, complete with signatures that their own arithmetic
//! confirms: what refuses them is the policy and not the signature.

use num_bigint::BigUint;
use russet::pki::asn1::{self, INTEGER, OCTET_STRING, Oid, Reader, SEQUENCE, SET};
use russet::pki::certificate::Certificate;
use russet::pki::key::{EC_PUBLIC_KEY, Family, Hash, PrivateKey, RSA_ENCRYPTION};

use crate::support::NOW;

const DATA: Oid = Oid::new_unwrap("1.2.840.113549.1.7.1");
const SIGNED_DATA: Oid = Oid::new_unwrap("1.2.840.113549.1.7.2");
const SHA1_WITH_RSA: Oid = Oid::new_unwrap("1.2.840.113549.1.1.5");
const SHA256_WITH_RSA: Oid = Oid::new_unwrap("1.2.840.113549.1.1.11");
const SHA256_WITH_ECDSA: Oid = Oid::new_unwrap("1.2.840.10045.4.3.2");
const CONTENT_TYPE: Oid = Oid::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: Oid = Oid::new_unwrap("1.2.840.113549.1.9.4");
const SIGNING_TIME: Oid = Oid::new_unwrap("1.2.840.113549.1.9.5");

/// Whoever can sign a certificate, a request or a message.
pub trait Signs {
    /// The SubjectPublicKeyInfo.
    fn spki(&self) -> Vec<u8>;
    /// The AlgorithmIdentifier of [`Signs::signature`].
    fn algorithm(&self) -> Vec<u8>;
    fn hash(&self) -> Hash;
    fn signature(&self, content: &[u8]) -> Vec<u8>;
}

impl Signs for PrivateKey {
    fn spki(&self) -> Vec<u8> {
        self.public_key_info().unwrap()
    }

    fn algorithm(&self) -> Vec<u8> {
        match self.family() {
            Family::Rsa => asn1::algorithm_with_null(SHA256_WITH_RSA),
            Family::Ecdsa => asn1::encode(SEQUENCE, &[&asn1::oid(SHA256_WITH_ECDSA)]),
        }
    }

    fn hash(&self) -> Hash {
        Hash::Sha256
    }

    fn signature(&self, content: &[u8]) -> Vec<u8> {
        self.sign(Hash::Sha256, content).unwrap()
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017 section 9.2).
fn padded(hash: Hash, content: &[u8], length: usize) -> BigUint {
    let digest = asn1::encode(OCTET_STRING, &[hash.digest(content).as_ref()]);
    let info = asn1::encode(SEQUENCE, &[&asn1::algorithm_with_null(hash.oid()), &digest]);
    BigUint::from_bytes_be(&[&[0, 1][..], &vec![0xff; length - info.len() - 3], &[0], &info].concat())
}

fn octets(number: &BigUint, length: usize) -> Vec<u8> {
    let bytes = number.to_bytes_be();
    [vec![0; length - bytes.len()], bytes].concat()
}

/// A SubjectPublicKeyInfo of RSA.
pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let integer = |value: &[u8]| asn1::encode(INTEGER, &[&[0], value]);
    let key = asn1::encode(SEQUENCE, &[&integer(modulus), &integer(exponent)]);
    spki(&asn1::algorithm_with_null(RSA_ENCRYPTION), &key)
}

/// A SubjectPublicKeyInfo of a point on the curve of this name.
pub fn curve_spki(curve: &'static str, length: usize) -> Vec<u8> {
    let algorithm = asn1::encode(SEQUENCE, &[&asn1::oid(EC_PUBLIC_KEY), &asn1::oid(Oid::new_unwrap(curve))]);
    spki(&algorithm, &[&[4][..], &vec![7; length]].concat())
}

/// A SubjectPublicKeyInfo of an algorithm whose name has `length` octets.
pub fn endless_spki(length: usize) -> Vec<u8> {
    spki(&asn1::encode(SEQUENCE, &[&endless_oid(length)]), &[1; 256])
}

/// An OBJECT IDENTIFIER of one arc without end.
pub fn endless_oid(length: usize) -> Vec<u8> {
    let arc = [&[0x2a][..], &vec![0x81; length - 2], &[1]].concat();
    asn1::encode(asn1::OBJECT_IDENTIFIER, &[&arc])
}

fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    asn1::encode(SEQUENCE, &[algorithm, &asn1::encode(asn1::BIT_STRING, &[&[0], key])])
}

/// An RSA key of any size whose modulus is a product of small primes: to sign with it takes no secret.
pub struct Rsa {
    primes: Vec<u64>,
    modulus: BigUint,
    exponent: u64,
}

impl Rsa {
    /// `bits` and a few more; the exponent is 1 or 65537.
    pub fn of(bits: u64, exponent: u64) -> Self {
        let (mut primes, mut modulus) = (Vec::new(), BigUint::from(1_u32));
        let mut candidate = 3_u64;
        while modulus.bits() < bits {
            if primes.iter().all(|prime| !candidate.is_multiple_of(*prime)) {
                primes.push(candidate);
                modulus *= candidate;
            }
            candidate += 2;
        }
        Self { primes, modulus, exponent }
    }
}

fn power(base: u64, exponent: u64, modulus: u64) -> u64 {
    (0..64).rev().fold(1, |result, bit| {
        let square = result * result % modulus;
        if exponent >> bit & 1 == 1 { square * base % modulus } else { square }
    })
}

impl Signs for Rsa {
    fn spki(&self) -> Vec<u8> {
        rsa_spki(&self.modulus.to_bytes_be(), &BigUint::from(self.exponent).to_bytes_be())
    }

    fn algorithm(&self) -> Vec<u8> {
        asn1::algorithm_with_null(SHA256_WITH_RSA)
    }

    fn hash(&self) -> Hash {
        Hash::Sha256
    }

    /// The root of the padded digest modulo each prime, put together by the Chinese remainder theorem.
    fn signature(&self, content: &[u8]) -> Vec<u8> {
        let length = self.modulus.to_bytes_be().len();
        let digest = padded(Hash::Sha256, content, length);
        let rest =
            |number: &BigUint, prime: u64| (number % prime).to_u64_digits().first().copied().unwrap_or(0);
        let (mut root, mut product) = (BigUint::ZERO, BigUint::from(1_u32));
        for &prime in &self.primes {
            let order = prime - 1;
            let private = (0..order).find(|private| private * self.exponent % order == 1 % order).unwrap();
            let wanted = power(rest(&digest, prime), private.max(1), prime);
            let missing = (wanted + prime - rest(&root, prime)) % prime;
            let inverse = power(rest(&product, prime), prime - 2, prime);
            root += &product * (missing * inverse % prime);
            product *= prime;
        }
        assert_eq!(root.modpow(&self.exponent.into(), &self.modulus), digest, "the signature is good");
        octets(&root, length)
    }
}

/// A real key by its numbers, for what the library does not do: signing with SHA-1, as the oldest clients
/// do, or with 1024 bits.
pub struct Numbers {
    modulus: BigUint,
    public: BigUint,
    private: BigUint,
    hash: Hash,
}

impl Numbers {
    /// Those of an RSA key in PKCS #8.
    pub fn of(pkcs8: &[u8], hash: Hash) -> Self {
        let mut info = Reader::sequence(pkcs8).unwrap();
        info.value(INTEGER).unwrap();
        info.algorithm().unwrap();
        let mut key = Reader::sequence(info.value(OCTET_STRING).unwrap()).unwrap();
        key.value(INTEGER).unwrap();
        let mut next = || BigUint::from_bytes_be(key.value(INTEGER).unwrap());
        Self { modulus: next(), public: next(), private: next(), hash }
    }
}

impl Signs for Numbers {
    fn spki(&self) -> Vec<u8> {
        rsa_spki(&self.modulus.to_bytes_be(), &self.public.to_bytes_be())
    }

    fn algorithm(&self) -> Vec<u8> {
        asn1::algorithm_with_null(if self.hash == Hash::Sha1 { SHA1_WITH_RSA } else { SHA256_WITH_RSA })
    }

    fn hash(&self) -> Hash {
        self.hash
    }

    fn signature(&self, content: &[u8]) -> Vec<u8> {
        let length = self.modulus.to_bytes_be().len();
        octets(&padded(self.hash, content, length).modpow(&self.private, &self.modulus), length)
    }
}

/// SignedData by any key. `embedded` says whether the content goes along.
pub fn signed_data(
    by: &impl Signs,
    certificate: &Certificate,
    content: &[u8],
    embedded: bool,
    attributes: &[(Oid, Vec<u8>)],
) -> Vec<u8> {
    let digest = asn1::encode(OCTET_STRING, &[by.hash().digest(content).as_ref()]);
    let standard =
        [(CONTENT_TYPE, asn1::oid(DATA)), (MESSAGE_DIGEST, digest), (SIGNING_TIME, asn1::time(NOW))];
    let attribute = |(oid, value): &(Oid, Vec<u8>)| {
        asn1::encode(SEQUENCE, &[&asn1::oid(*oid), &asn1::encode(SET, &[value])])
    };
    let mut set = asn1::set_of(standard.iter().chain(attributes).map(attribute).collect());
    let signature = by.signature(&set);
    set[0] = asn1::constructed_context(0);
    let octets = asn1::encode(OCTET_STRING, &[content]);
    let explicit = asn1::encode(asn1::constructed_context(0), &[&octets]);
    let digest_algorithm = asn1::encode(SEQUENCE, &[&asn1::oid(by.hash().oid())]);
    let serial = asn1::encode(INTEGER, &[certificate.serial()]);
    let info = asn1::encode(
        SEQUENCE,
        &[
            &asn1::small_integer(1),
            &asn1::encode(SEQUENCE, &[certificate.issuer().der(), &serial]),
            &digest_algorithm,
            &set,
            &by.algorithm(),
            &asn1::encode(OCTET_STRING, &[&signature]),
        ],
    );
    let data = asn1::encode(
        SEQUENCE,
        &[
            &asn1::small_integer(1),
            &asn1::encode(SET, &[&digest_algorithm]),
            &asn1::encode(SEQUENCE, &[&asn1::oid(DATA), if embedded { &explicit } else { &[] }]),
            &asn1::encode(asn1::constructed_context(0), &[certificate.der()]),
            &asn1::encode(SET, &[&info]),
        ],
    );
    let explicit = asn1::encode(asn1::constructed_context(0), &[&data]);
    asn1::encode(SEQUENCE, &[&asn1::oid(SIGNED_DATA), &explicit])
}
