/*
 * Trees as they are kept and walked (see fit.h): the reachable nodes of XGBoost's model, each parent before its children, so that a walk always ends and can be checked by looking at each node once.
 * Sums and the last step to a probability are taken in float and in the order of the trees, as XGBoost takes them: the numbers are the same, bit for bit.
 */
#include "engine/fit.h"
#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>

#define DEPTH_MAX 64

void tg_trees_free(struct tg_trees *t)
{
	free(t->root);
	free(t->node);
	*t = (struct tg_trees){ 0 };
}

struct source {
	const json_t *left, *right, *column, *value, *missing_left, *gain;
	size_t n, room; /* nodes of this tree; of all of them */
};

static double number(const json_t *list, size_t i)
{
	const json_t *v = json_array_get(list, i);
	return json_is_boolean(v) ? json_is_true(v) : json_number_value(v);
}

/* The node at `at` of the source and all below it, onto the end of t; its place, or 0 where it is no node. */
static uint32_t copy(struct tg_trees *t, double *gain, uint32_t width, const struct source *s, size_t at, unsigned depth)
{
	if (at >= s->n || depth > DEPTH_MAX || t->nnodes >= s->room)
		return 0;
	uint32_t place = t->nnodes++;
	struct tg_node n = { .value = (float)number(s->value, at) };
	double left = number(s->left, at), right = number(s->right, at), column = number(s->column, at);
	if (left > 0) {
		if (!(column >= 0 && column < width && right > 0))
			return 0;
		n.column = (uint32_t)column & 0x7fffffffu;
		n.missing_left = number(s->missing_left, at) != 0;
		gain[n.column] += number(s->gain, at);
		n.left = copy(t, gain, width, s, (size_t)left, depth + 1);
		n.right = n.left ? copy(t, gain, width, s, (size_t)right, depth + 1) : 0;
		if (!n.left || !n.right)
			return 0;
	}
	t->node[place] = n;
	return place;
}

static bool take(struct source *s, const json_t *tree)
{
	*s = (struct source){ json_object_get(tree, "left_children"), json_object_get(tree, "right_children"), json_object_get(tree, "split_indices"), json_object_get(tree, "split_conditions"),
		json_object_get(tree, "default_left"), json_object_get(tree, "loss_changes"), 0, 0 };
	s->n = json_array_size(s->left);
	return s->n && json_array_size(s->right) == s->n && json_array_size(s->column) == s->n && json_array_size(s->value) == s->n && json_array_size(s->missing_left) == s->n &&
		json_array_size(s->gain) == s->n;
}

bool tg_trees_read(struct tg_trees *t, double *gain, uint32_t width, const char *json, size_t n)
{
	json_error_t fault;
	json_t *all = json_loadb(json, n, 0, &fault), *x = all;
	for (size_t i = 0; i < 4; i++)
		x = json_object_get(x, (const char *[]){ "learner", "gradient_booster", "model", "trees" }[i]);
	size_t ntrees = json_array_size(x), total = 0;
	struct source s;
	bool ok = ntrees && ntrees <= TG_TREES_MAX;
	for (size_t i = 0; ok && i < ntrees; i++) {
		ok = take(&s, json_array_get(x, i));
		total += s.n;
	}
	ok = ok && total < TG_NODES_MAX;
	if (ok) {
		t->root = calloc(ntrees, sizeof *t->root);
		t->node = calloc(total + 1, sizeof *t->node);
		ok = t->root && t->node;
		t->nnodes = 1; /* place 0 means none */
	}
	for (size_t i = 0; ok && i < ntrees; i++) {
		ok = take(&s, json_array_get(x, i));
		s.room = total + 1;
		ok = ok && (t->root[i] = copy(t, gain, width, &s, 0, 0)) > 0;
		t->ntrees++;
	}
	json_decref(all);
	ok = ok && tg_trees_sound(t, width);
	if (!ok)
		tg_trees_free(t);
	return ok;
}

bool tg_trees_sound(const struct tg_trees *t, uint32_t width)
{
	for (uint32_t i = 0; i < t->ntrees; i++)
		if (!t->root[i] || t->root[i] >= t->nnodes)
			return false;
	for (uint32_t i = 1; i < t->nnodes; i++) {
		const struct tg_node *n = &t->node[i];
		if (!isfinite(n->value) || (!n->left && n->right))
			return false;
		if (n->left && (n->left <= i || n->left >= t->nnodes || n->right <= i || n->right >= t->nnodes || n->column >= width))
			return false;
	}
	return true;
}

float tg_trees_sum(const struct tg_trees *t, const double *cells)
{
	float sum = t->base;
	for (uint32_t i = 0; i < t->ntrees; i++) {
		const struct tg_node *n = &t->node[t->root[i]];
		while (n->left) {
			double x = cells[n->column];
			float f = x > FLT_MAX ? INFINITY : x < -FLT_MAX ? -INFINITY : (float)x;
			n = &t->node[(isnan(x) ? n->missing_left : f < n->value) ? n->left : n->right];
		}
		sum += n->value;
	}
	return sum;
}

double tg_trees_probability(float sum)
{
	float e = -sum < 88.7f ? -sum : 88.7f;
	return (double)(1.0f / (expf(e) + 1.0f + 1e-16f));
}
