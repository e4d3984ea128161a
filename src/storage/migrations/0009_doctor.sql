-- Where devices were last heard from, for what doctor says of one network's devices. Owner: mdm/contact.rs
ALTER TABLE contacts ADD COLUMN address TEXT;
