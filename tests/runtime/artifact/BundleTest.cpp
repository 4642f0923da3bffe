#include "runtime/artifact/Bundle.h"

#include "TestPlan.h"

#include "runtime/artifact/PlanJson.h"
#include "tests/compiler/TempDirectory.h"

#include <gtest/gtest.h>

#include <sys/stat.h>
#include <unistd.h>

namespace lathe {
namespace {

namespace fs = std::filesystem;

BundleTarget testTarget(const std::string &arch) {
  BundleTarget target{arch, testPlan(arch), {}};
  for (const PlannedKernel &kernel : target.plan.kernels)
    target.images[kernel.name] = "ELF " + arch + " " + kernel.name;
  target.images[kRuntimeImage] = std::string("\0\1\2\n", 4) + arch;
  return target;
}

Bundle testBundle() {
  Bundle bundle;
  bundle.latheVersion = "0.1.0";
  bundle.context = 32768;
  bundle.model = {ModelSource::Synthetic,
                  "/models/x/config.json",
                  "00ff",
                  "x",
                  1000,
                  64,
                  4096,
                  true,
                  "int4",
                  "bf16",
                  "{\"a\": 1}\n"};
  bundle.targets = {testTarget("sm_90"), testTarget("sm_120f")};
  return bundle;
}

ChooseTarget only(std::string_view arch) {
  return [arch](std::string_view found) { return found == arch; };
}

/// A bundle on disk, to be damaged.
class BundleFiles : public testing::Test {
protected:
  void SetUp() override {
    path = (directory.path() / "bundle").string();
    Status status = writeBundle(path, testBundle());
    ASSERT_TRUE(status.ok()) << status;
  }

  fs::path file(const std::string &name) const { return fs::path(path) / name; }
  void edit(const std::string &name, std::string_view from,
            std::string_view to) const {
    std::string text = readFile(file(name));
    size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    writeFile(file(name), text.replace(at, from.size(), to));
  }
  testing::AssertionResult refused(const std::string &part,
                                   std::string_view arch = "sm_90") const {
    StatusOr<Bundle> bundle = readBundle(path, only(arch));
    std::string message = bundle.ok() ? "OK" : messageOf(bundle.status());
    if (exitCode(bundle.status()) == 3 &&
        message.find(part) != std::string::npos)
      return testing::AssertionSuccess();
    return testing::AssertionFailure()
           << "expected a modelError with \"" << part << "\", got " << message;
  }

  TempDirectory directory;
  std::string path;
};

TEST_F(BundleFiles, RoundTrip) {
  Bundle expected = testBundle();
  StatusOr<Bundle> bundle = readBundle(path, nullptr);
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  EXPECT_EQ(bundle->latheVersion, expected.latheVersion);
  EXPECT_TRUE(bundle->model == expected.model);
  EXPECT_EQ(bundle->context, expected.context);
  ASSERT_EQ(bundle->targets.size(), 2u);
  for (size_t i = 0; i < 2; ++i) {
    const BundleTarget &found = bundle->targets[i];
    EXPECT_EQ(found.arch, expected.targets[i].arch);
    EXPECT_EQ(planToJson(found.plan), planToJson(expected.targets[i].plan));
    EXPECT_EQ(found.images, expected.targets[i].images);
  }
}

TEST_F(BundleFiles, ReadsOnlyTheTargetAskedFor) {
  fs::remove_all(file("cubin/sm_120f"));
  fs::remove(file("plan/sm_120f.json"));
  StatusOr<Bundle> bundle = readBundle(path, only("sm_90"));
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  ASSERT_EQ(bundle->targets.size(), 1u);
  EXPECT_EQ(bundle->targets[0].arch, "sm_90");
  EXPECT_TRUE(refused("plan/sm_120f.json: cannot open", "sm_120f"));
}

TEST_F(BundleFiles, TakesTheFirstTargetThatWillDo) {
  auto any = [](std::string_view) { return true; };
  StatusOr<Bundle> bundle = readBundle(path, any);
  ASSERT_TRUE(bundle.ok()) << bundle.status();
  ASSERT_EQ(bundle->targets.size(), 1u);
  EXPECT_EQ(bundle->targets[0].arch, "sm_90");
}

TEST_F(BundleFiles, NamesTheArchitecturesThatAreThere) {
  EXPECT_TRUE(refused("has code for sm_90, sm_120f", "sm_80"));
}

TEST_F(BundleFiles, IsForTheOwnerOnly) {
  struct stat info;
  for (const auto &entry : fs::recursive_directory_iterator(path)) {
    ASSERT_EQ(::stat(entry.path().c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777u, entry.is_directory() ? 0700u : 0600u)
        << entry.path();
  }
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777u, 0700u);
}

TEST_F(BundleFiles, RefusesAnotherSchema) {
  edit("manifest.json", "\"schema_version\": 2", "\"schema_version\": 1");
  EXPECT_TRUE(refused("manifest.json: schema_version: expected 2, found 1; "
                      "compile it again with infer compile"));
  EXPECT_TRUE(isBundle(path));
}

TEST_F(BundleFiles, RefusesWhatIsNoBundle) {
  edit("manifest.json", "lathe-bundle", "other-bundle");
  EXPECT_TRUE(refused("this is no bundle"));
  EXPECT_FALSE(isBundle(path));
  writeFile(file("manifest.json"), "{");
  EXPECT_TRUE(refused("manifest.json: not valid JSON"));
  EXPECT_FALSE(isBundle(path));
  // A damaged one is still not a checkpoint.
  writeFile(file("manifest.json"), "{\"format\": \"lathe-bundle\",");
  EXPECT_TRUE(refused("manifest.json: not valid JSON"));
  EXPECT_TRUE(isBundle(path));
  fs::remove(file("manifest.json"));
  EXPECT_TRUE(refused("manifest.json: cannot open"));
  EXPECT_FALSE(isBundle(path));
  EXPECT_FALSE(isBundle(directory.path().string()));
  EXPECT_FALSE(isBundle("/nowhere"));
}

TEST_F(BundleFiles, RefusesFieldsOfTheManifest) {
  edit("manifest.json", "\"hidden\": 64", "\"hidden\": 0");
  EXPECT_TRUE(refused("manifest.json: model.hidden: expected an integer from"));
  edit("manifest.json", "\"hidden\": 0", "\"hidden\": 64, \"new\": 1");
  EXPECT_TRUE(refused("manifest.json: model.new: unknown"));
}

TEST_F(BundleFiles, RefusesAFlippedByte) {
  edit("cubin/sm_90/attention.cubin", "ELF", "EMF");
  EXPECT_TRUE(refused("cubin/sm_90/attention.cubin: expected the checksum "));
  EXPECT_TRUE(readBundle(path, only("sm_120f")).ok());
}

TEST_F(BundleFiles, RefusesATruncatedPlan) {
  std::string text = readFile(file("plan/sm_90.json"));
  writeFile(file("plan/sm_90.json"), text.substr(0, 1000));
  EXPECT_TRUE(refused("plan/sm_90.json: expected " +
                      std::to_string(text.size()) +
                      " bytes, found 1000; "
                      "compile it again with infer compile"));
}

TEST_F(BundleFiles, RefusesAMissingFile) {
  fs::remove(file("cubin/sm_90/runtime.cubin"));
  EXPECT_TRUE(refused("cubin/sm_90/runtime.cubin: cannot open: No such file"));
}

TEST_F(BundleFiles, RefusesPathsThatLeaveTheBundle) {
  std::string good = "plan/sm_90.json", last = good;
  for (std::string bad : {"../plan/sm_90.json", "plan/../../x", "/etc/passwd",
                          "plan//sm_90.json", "./plan", ""}) {
    edit("manifest.json", "\"file\":\"" + last + "\"",
         "\"file\":\"" + bad + "\"");
    EXPECT_TRUE(refused("manifest.json: targets[0].plan.file: expected a path "
                        "inside the bundle, found \"" +
                        bad + "\""));
    last = bad;
  }
}

TEST_F(BundleFiles, RefusesSymbolicLinks) {
  fs::rename(file("plan"), directory.path() / "elsewhere");
  fs::create_directory_symlink(directory.path() / "elsewhere", file("plan"));
  EXPECT_TRUE(refused("bundle/plan: cannot open"));
}

TEST_F(BundleFiles, RefusesWhatOthersCanWrite) {
  for (const char *name : {"", "manifest.json", "config.json", "plan",
                           "cubin/sm_90", "cubin/sm_90/attention.cubin"}) {
    fs::permissions(file(name), fs::perms::group_write, fs::perm_options::add);
    EXPECT_TRUE(refused(std::string(name) + ": can be written by other users; "
                                            "if you trust it, run chmod -R"));
    fs::permissions(file(name), fs::perms::group_write,
                    fs::perm_options::remove);
  }
  EXPECT_TRUE(readBundle(path, only("sm_90")).ok());
}

TEST_F(BundleFiles, RefusesAnotherOwner) {
  if (::chown(file("cubin/sm_90").c_str(), 4242, gid_t(-1)) != 0)
    GTEST_SKIP() << "only root can give files away";
  EXPECT_TRUE(refused("cubin/sm_90: belongs to another user"));
}

TEST_F(BundleFiles, RefusesKernelsThatThePlanDoesNotHave) {
  edit("manifest.json", "\"name\": \"attention\"", "\"name\": \"attentive\"");
  EXPECT_TRUE(refused("manifest.json: the kernels of sm_90 are not those of "
                      "plan/sm_90.json"));
}

TEST_F(BundleFiles, ReplacesAnOlderBundle) {
  Bundle bundle = testBundle();
  bundle.targets.pop_back();
  bundle.context = 7;
  ASSERT_TRUE(writeBundle(path + "/", bundle).ok());
  StatusOr<Bundle> found = readBundle(path, nullptr);
  ASSERT_TRUE(found.ok()) << found.status();
  EXPECT_EQ(found->context, 7);
  EXPECT_EQ(found->targets.size(), 1u);
  EXPECT_FALSE(fs::exists(file("cubin/sm_120f")));
  EXPECT_EQ(directory.files().size(), 1u) << "something was left behind";
}

TEST(BundleWriter, ReplacesOnlyBundlesAndEmptyDirectories) {
  TempDirectory directory;
  std::string path = (directory.path() / "x").string();
  fs::create_directory(path);
  EXPECT_TRUE(writeBundle(path, testBundle()).ok());
  fs::remove_all(path);
  fs::create_directory(path);
  writeFile(path + "/diary.txt", "dear");
  EXPECT_EQ(exitCode(writeBundle(path, testBundle())), 2);
  EXPECT_EQ(exitCode(writeBundle(path + "/diary.txt", testBundle())), 2);
  EXPECT_EQ(exitCode(writeBundle(path + "/no/parent", testBundle())), 2);
  EXPECT_EQ(exitCode(writeBundle("", testBundle())), 2);
  EXPECT_EQ(exitCode(writeBundle("/", testBundle())), 2);
  EXPECT_EQ(readFile(path + "/diary.txt"), "dear");
  EXPECT_EQ(directory.files().size(), 1u);
}

TEST(BundleWriter, RefusesABundleThatContradictsItself) {
  TempDirectory directory;
  std::string path = (directory.path() / "x").string();
  auto refused = [&](auto damage) {
    Bundle bundle = testBundle();
    damage(bundle);
    return exitCode(writeBundle(path, bundle)) == 1 && !fs::exists(path);
  };
  EXPECT_TRUE(refused([](Bundle &b) { b.model.path = "here"; }));
  EXPECT_TRUE(refused([](Bundle &b) { b.targets[0].arch = "sm_80"; }));
  EXPECT_TRUE(refused([](Bundle &b) { b.targets[1] = b.targets[0]; }));
  EXPECT_TRUE(refused([](Bundle &b) { b.targets[0].images.erase("runtime"); }));
  EXPECT_TRUE(refused([](Bundle &b) { b.targets[0].images["x"] = "y"; }));
  EXPECT_TRUE(refused(
      [](Bundle &b) { b.targets[0].plan.entries[0].launches[0].kernel = 9; }));
}

} // namespace
} // namespace lathe
