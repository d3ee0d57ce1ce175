#include "http/router.h"

#include <gtest/gtest.h>

namespace mach::http {
namespace {

Router MakeRouter() {
  const RouteHandler nothing = [](const std::shared_ptr<Exchange>&, const std::string&) {};
  return Router({{"GET", "/a", nothing},
                 {"POST", "/a", nothing},
                 {"GET", "/a/{id}", nothing},
                 {"POST", "/b", nothing}});
}

TEST(Router, FindsByMethodAndPath) {
  const Router router = MakeRouter();
  EXPECT_EQ(router.Find("POST", "/a").route->method, "POST");
  EXPECT_EQ(router.Find("HEAD", "/a").route->method, "GET");
  EXPECT_EQ(router.Find("GET", "/a/").label, "/a");
  EXPECT_EQ(router.Find("GET", "/a/x%2Fy/z%").argument, "x/y/z%");
  EXPECT_TRUE(router.Find("GET", "/c").label.empty());
  EXPECT_TRUE(router.Find("GET", "").label.empty());
}

TEST(Router, NamesAllowedMethods) {
  const auto match = MakeRouter().Find("DELETE", "/a");
  EXPECT_EQ(match.route, nullptr);
  EXPECT_EQ(match.allowed, "GET, HEAD, POST");
}

}  // namespace
}  // namespace mach::http
