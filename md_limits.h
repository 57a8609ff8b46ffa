/* SPDX-License-Identifier: Apache-2.0 */
/* Every input has a maximum, and all maxima stand together. Bytes unless said otherwise. */
#ifndef MD_LIMITS_H
#define MD_LIMITS_H

#define MD_MAX_ACME_BODY    (256 * 1024)  /* directory, orders, problem documents */
#define MD_MAX_CHAIN_BODY   (128 * 1024)  /* PEM chain, RFC 8555 7.4.2 */
#define MD_MAX_OCSP_BODY    (10 * 1024)   /* OCSP response: it is part of each handshake */
#define MD_MAX_ARI_BODY     (16 * 1024)   /* renewalInfo, RFC 9773 4.2 */
#define MD_MAX_HEADERS      (64 * 1024)   /* all response headers together */
#define MD_MAX_FILE         (1024 * 1024) /* in the store, written or read */
#define MD_MAX_URI          (4 * 1024)    /* of a CA, a contact, a proxy */
#define MD_MAX_CHALLENGE    8191          /* an http-01 or tls-alpn-01 answer */
#define MD_MAX_ALPN_PAIRS   8             /* keys with certificates for one tls-alpn-01 answer */
#define MD_MAX_JSON_DEPTH   32            /* nesting of any document */
#define MD_MAX_ALTERNATES   8             /* chains of one certificate that are looked at */
#define MD_MAX_CHAIN        10            /* certificates in a chain */
#define MD_MAX_ISSUERS      1000          /* that are shared among many chains */
#define MD_MAX_JOB_LOG      128           /* entries in a job's log */
#define MD_MAX_ERRORS       1000000       /* failed attempts that are counted */
#define MD_MAX_NONCES       64            /* unused nonces kept per CA */
#define MD_MAX_NONCE_AGE    apr_time_from_sec(300)
#define MD_MAX_BAD_NONCE    20            /* repetitions of one request, RFC 8555 6.5 */
#define MD_MAX_TEXT         1024          /* remote text in a log line or status page */
#define MD_MAX_DETAIL       (16 * 1024)   /* why a call failed, as it is kept */
#define MD_MAX_SUBPROBLEMS  100           /* RFC 8555 6.7.1, as they are kept; */
#define MD_MAX_SUBPROBLEM_TEXT (48 * 1024) /* all together */
#define MD_MAX_JOB_DETAIL   400           /* text of an entry in a job's log */
#define MD_MAX_REGISTRATION (32 * 1024)   /* the CA's account object, as it is kept */
#define MD_MAX_NAMES        1000          /* DNS names in an order; */
#define MD_MAX_NAMES_TEXT   (64 * 1024)   /* all together: what a CA answers has each of them */
#define MD_MAX_RETRY_AFTER  apr_time_from_sec(24 * 3600)
#define MD_MAX_LAST_WORK    apr_time_from_sec(1) /* of what is under way when the process ends */
#define MD_MAX_ASIDE        9             /* damaged copies of one file that are kept */
#define MD_MAX_ARCHIVE      999           /* archived sets of one domain */
#define MD_MAX_TREE_DEPTH   3             /* directories within each other that are removed, */
#define MD_MAX_TREE_FILES   10000         /* and what is in them */
#define MD_MAX_DIR_FILES    1000          /* of a name in the store that are looked at */
#define MD_MAX_SHARED_NAMES 30000         /* in a group that children write to */
#define MD_MAX_LINKS        40            /* on the way to the store */
#define MD_MAX_COMMANDS     64            /* of events, that run at the same time; */
#define MD_MAX_DNS_COMMANDS 128           /* of MDChallengeDns01, */
#define MD_MAX_RECORD_COMMANDS 64         /* and of these for one domain */
#define MD_MAX_RECORDS      5000          /* TXT records of a domain that are to be torn down */
#define MD_MAX_TEAR_DOWNS   10            /* tries, of each */
#define MD_MAX_COMMAND_TIME apr_time_from_sec(600) /* of each */
#define MD_MAX_COMMAND_OUTPUT (16 * 1024) /* on its standard error, that is logged */
#define MD_MAX_DNS_MESSAGE  (16 * 1024)   /* an answer of a name server; */
#define MD_MAX_DNS_KEPT     (4 * 1024 * 1024) /* those to all questions of a check */
#define MD_MAX_DNS_RECORDS  64            /* of one answer */
#define MD_MAX_DNS_ALIASES  8             /* CNAME records, one after the other */
#define MD_MAX_DNS_QUESTIONS 20000        /* of a check */
#define MD_MAX_DNS_SERVERS  64            /* that a check asks */
#define MD_MAX_HINTS        20            /* on what is wrong with the names of a domain */
#define MD_MAX_CAS          32            /* that metrics tell apart */
#define MD_MAX_RECORD       (4 * 1024 * 1024) /* of what a reader found of one domain */
#define MD_MAX_READERS      8             /* processes */
#define MD_MAX_READ_TIME    apr_time_from_sec(2) /* for one domain, and in all that failed */
#define MD_MAX_READ_LOST    apr_time_from_sec(5)
#define MD_MAX_KEY_ROUNDS   10000         /* of PBKDF2 in an encrypted key; 2048 are usual */

#endif
