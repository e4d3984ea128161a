-- Requests for push certificates, and what people write beside a certificate.

-- Keys that wait for their certificate. Owner: apns/request.rs
CREATE TABLE push_requests (
    id             TEXT PRIMARY KEY,
    made_at        INTEGER NOT NULL,
    made_by        TEXT NOT NULL,
    apple_account  TEXT,                       -- with which the certificate is to be made
    csr            BLOB NOT NULL,              -- DER
    sealed_key     BLOB NOT NULL,              -- PKCS#8
    signed_by      TEXT,                       -- 'vendor' | 'mdmcert.download' | 'elsewhere'
    signed_request TEXT,                       -- what Apple's portal takes
    reply_to       BLOB,                       -- certificate to which mdmcert.download encrypts its answer, DER
    sealed_reply   BLOB                        -- its key, PKCS#8
) STRICT;

ALTER TABLE push_certificates ADD COLUMN notes TEXT;
