/* Signature Version 4: AWS's own examples ("Signature Calculations for the Authorization Header", Amazon S3 API reference), by which every server checks. */
#include "store/s3_sign.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define DATE "20130524T000000Z"
#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST { "host", "examplebucket.s3.amazonaws.com" }

static struct tg_s3_credentials who(void)
{
	struct tg_s3_credentials c = { .id = "AKIAIOSFODNN7EXAMPLE" };
	tg_secret_set(&c.secret, TG_S("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"));
	return c;
}

static void expect(const char *method, const char *path, const struct tg_s3_query *q, unsigned nq, const struct tg_s3_header *h, unsigned nh, const char *payload, const char *signature)
{
	struct tg_s3_credentials c = who();
	struct tg_buf out, query, encoded;
	tg_buf_init(&out, 4096);
	tg_buf_init(&query, 4096);
	tg_buf_init(&encoded, 4096);
	tg_s3_query_text(&query, q, nq);
	tg_s3_encode(&encoded, tg_slice_cstr(path), true);
	assert_true(tg_s3_sign(&c, "us-east-1", method, tg_buf_view(&encoded), tg_buf_view(&query), h, nh, DATE, payload, &out));
	tg_buf_char(&out, 0);
	const char *at = strstr(out.p, "Signature=");
	assert_non_null(at);
	assert_string_equal(at + 10, signature);
	assert_non_null(strstr(out.p, "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders="));
	assert_null(strstr(out.p, "wJalr"));
	tg_buf_free(&out);
	tg_buf_free(&query);
	tg_buf_free(&encoded);
	tg_secret_wipe(&c.secret);
}

static void get_object(void **state)
{
	(void)state;
	const struct tg_s3_header h[] = { HOST, { "range", "bytes=0-9" }, { "x-amz-content-sha256", EMPTY }, { "x-amz-date", DATE } };
	expect("GET", "/test.txt", NULL, 0, h, 4, EMPTY, "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

/* The path has a character that is encoded, and headers come in any order. */
static void put_object(void **state)
{
	(void)state;
	char payload[65];
	tg_s3_sha256_hex(TG_S("Welcome to Amazon S3."), payload);
	assert_string_equal(payload, "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072");
	const struct tg_s3_header h[] = { { "x-amz-storage-class", "REDUCED_REDUNDANCY" }, { "x-amz-date", DATE }, { "date", "Fri, 24 May 2013 00:00:00 GMT" }, { "x-amz-content-sha256", payload }, HOST };
	expect("PUT", "/test$file.text", NULL, 0, h, 5, payload, "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void query_without_a_value(void **state)
{
	(void)state;
	const struct tg_s3_header h[] = { HOST, { "x-amz-content-sha256", EMPTY }, { "x-amz-date", DATE } };
	expect("GET", "/", &(struct tg_s3_query){ "lifecycle", "" }, 1, h, 3, EMPTY, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

static void query_is_sorted(void **state)
{
	(void)state;
	const struct tg_s3_header h[] = { HOST, { "x-amz-content-sha256", EMPTY }, { "x-amz-date", DATE } };
	const struct tg_s3_query q[] = { { "prefix", "J" }, { "max-keys", "2" } };
	expect("GET", "/", q, 2, h, 3, EMPTY, "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void query_is_encoded(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 256);
	const struct tg_s3_query q[] = { { "prefix", "a/b c+é" }, { "list-type", "2" }, { "continuation-token", "x==" } };
	tg_s3_query_text(&b, q, 3);
	tg_buf_char(&b, 0);
	assert_string_equal(b.p, "continuation-token=x%3D%3D&list-type=2&prefix=a%2Fb%20c%2B%C3%A9");
	tg_buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(get_object), cmocka_unit_test(put_object), cmocka_unit_test(query_without_a_value), cmocka_unit_test(query_is_sorted), cmocka_unit_test(query_is_encoded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
